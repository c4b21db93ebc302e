// Package auth owns credentials: the tokens of devices and operators, the roles of operators, the login cookies of the
// dashboard, the certificate the hub shows on its TLS ports together with the local authority that signs it, and the
// certificates of devices: it issues them, by an authority of their own.
//
// It does not own the registry of devices (package devices keeps the hash of a device's token and asks this package to
// compare), it does not read requests, and it does not decide which call needs which role (package api does).
//
// A token is 256 random bits. The hub keeps only its SHA-256: with that much entropy a slow password hash would add cost
// for the hub and nothing for an attacker.
//
// The operators of a bucket are held in memory, so that authentication never waits for the network; what other hubs change
// arrives by a watch. Each change is in the bucket before it counts. There is always an enabled administrator of all
// devices with a token that does not expire (ErrLastAdmin); two hubs that each take one of the last two away in the same
// moment are not kept from it. When tokens were used last is written once a minute, together.
//
// Overload: nothing here queues. Authentication is one hash and one map lookup; handshakes are bounded by whoever accepts
// connections.
//
// Reading order: token.go, role.go, scope.go, operators.go, operators_change.go, operators_store.go, cookie.go, certificates.go, authority.go, names.go,
// ownfiles.go, atomicfile.go, watchedfiles.go; deviceauthority.go (certificates for devices), devicetrust.go, anchors.go and
// clientcertificate.go (whose certificates count), ticketkeys.go.
package auth
