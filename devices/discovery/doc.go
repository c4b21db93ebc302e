// Package discovery owns the devices that were seen on an MQTT bridge and are not in the registry: the list of them with
// the last that each sent, who of them is let in by rule, and whom operators do not want to see again.
//
// It does not own the registry, which makes the device (package devices), nor what a message means: who sees a device
// describes it in a [Sighting]. A login without valid credentials is no sighting, or whoever guesses would fill the list.
//
// # What is kept
//
// Sightings are in memory, with the last payload, cut: the devices come again, and so do they. Who is ignored is on disk.
//
// # Admission
//
// An operator admits a device by name. A rule of the configuration admits it when it is seen, in the course of
// [List.Seen]: when that returns true the device is in the registry, on disk, and the message counts. Whoever is admitted
// by an operator begins with the next message: the one that was seen is settled, and nobody says how old it is by now.
// A device that was deleted is a stranger again, and a rule admits it again; to keep it out it is ignored.
//
// # Overload
//
// The list holds [Config.Devices]; the one that was not heard of for the longest goes. Each rule has a number of devices
// that it may have in the registry. Admissions take at most a fifth of a bridge's time, beyond a second at once: who comes
// when that is used up stays on the list, and is admitted by a later message. So strangers in any number neither fill the
// registry nor hold up the messages of those who belong here. All of that is counted (metrics.go).
//
// Files in reading order: sighting.go (what was seen), list.go (open, see, tell), rules.go (who is let in by itself),
// pace.go (how fast), admit.go (the way into the registry), ignored.go (who is not wanted), metrics.go.
package discovery
