package main

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"telemetryhub/api/client"
)

// The scripts ask hubctl itself what may follow, so they never grow old.
const (
	bashScript = `# hubctl completion for bash:  source <(hubctl completion bash)
_hubctl() {
    local IFS=$'\n' cur="${COMP_WORDS[COMP_CWORD]}"
    COMPREPLY=($(hubctl __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} -eq 0 ]] && compopt -o default
    # bash splits words at colons, device ids have them
    if [[ $cur == *:* || ${COMP_LINE:0:COMP_POINT} == *: ]] && declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "$cur"
    fi
}
complete -F _hubctl hubctl
`
	zshScript = `#compdef hubctl
# hubctl completion for zsh:  source <(hubctl completion zsh)
_hubctl() {
    local -a found
    found=("${(@f)$(hubctl __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n "$found" ]] && compadd -a found || _files
}
compdef _hubctl hubctl
`
	fishScript = `# hubctl completion for fish:  hubctl completion fish | source
function __hubctl
    set -l words (commandline -opc) (commandline -ct)
    hubctl __complete $words[2..-1] 2>/dev/null
end
complete -c hubctl -f -a '(__hubctl)'
`
)

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is what kong shows below the flags.
func (completionCommand) Help() string {
	return "bash: source <(hubctl completion bash) · zsh: source <(hubctl completion zsh) · fish: hubctl completion fish | source"
}

// Run prints the script.
func (c *completionCommand) Run(a *app) error {
	script := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell]
	return a.printf("%s", script)
}

type completeCommand struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

// Run prints what the last word may become, one a line.
func (c *completeCommand) Run(a *app) error {
	last := ""
	before := c.Words
	if n := len(c.Words); n > 0 {
		last, before = c.Words[n-1], c.Words[:n-1]
	}
	for _, word := range a.candidates(before, last) {
		if strings.HasPrefix(word, last) {
			if err := a.printf("%s\n", clean(word)); err != nil {
				return err
			}
		}
	}
	return nil
}

// candidates walks kong's model along the words that are complete.
func (a *app) candidates(before []string, last string) []string {
	node := a.parser.Model.Node
	position := 0
	var expects *kong.Flag // whose value comes next
	for _, word := range before {
		switch {
		case expects != nil:
			expects = nil
		case strings.HasPrefix(word, "-"):
			if flag := findFlag(node, word); flag != nil && !flag.IsBool() && !strings.Contains(word, "=") {
				expects = flag
			}
		default:
			if child := findChild(node, word); child != nil {
				node, position = child, 0
			} else {
				position++
			}
		}
	}
	switch {
	case expects != nil && expects.Enum != "":
		return expects.EnumSlice()
	case expects != nil:
		return nil
	case strings.HasPrefix(last, "-"):
		return flagsOf(node)
	case len(node.Children) > 0 && position == 0:
		found := childrenOf(node)
		if usual := node.DefaultCmd; usual != nil && len(usual.Positional) > 0 { // its words may stand here too
			found = append(found, a.values(usual.Positional[0])...)
		}
		return found
	case position < len(node.Positional):
		return a.values(node.Positional[position])
	case len(node.Positional) > 0 && node.Positional[len(node.Positional)-1].IsCumulative():
		return a.values(node.Positional[len(node.Positional)-1])
	}
	return nil
}

func (a *app) values(p *kong.Positional) []string {
	if p.Enum != "" {
		return p.EnumSlice()
	}
	// A slow or absent hub must not hold up the shell.
	ctx, cancel := context.WithTimeout(a.ctx, time.Second)
	defer cancel()
	switch p.Name {
	case "device":
		return firstIDs(a.hub.Devices(ctx, client.DeviceFilter{Page: 1000}), func(d client.Device) string { return d.ID })
	case "bridge":
		all, _ := a.hub.Bridges(ctx) // without the hub there is nothing to offer
		var names []string
		for _, b := range all {
			names = append(names, b.Name)
		}
		return names
	case "seen-device":
		return firstIDs(a.hub.Discovered(ctx, client.DiscoveredFilter{Page: 1000}), func(d client.Discovered) string { return d.ID })
	}
	return nil
}

// firstIDs returns the ids of the first thousand of a list, or of those before a failure.
func firstIDs[T any](list iter.Seq2[T, error], id func(T) string) (ids []string) {
	for d, err := range list {
		if err != nil || len(ids) == 1000 {
			break
		}
		ids = append(ids, id(d))
	}
	return ids
}

func findChild(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name || slices.Contains(child.Aliases, name) {
			return child
		}
	}
	return nil
}

func childrenOf(node *kong.Node) []string {
	var names []string
	for _, child := range node.Children {
		if !child.Hidden {
			names = append(names, child.Name)
		}
	}
	return names
}

func findFlag(node *kong.Node, word string) *kong.Flag {
	name, _, _ := strings.Cut(word, "=")
	for ; node != nil; node = node.Parent {
		for _, flag := range node.Flags {
			if name == "--"+flag.Name || (flag.Short != 0 && name == "-"+string(flag.Short)) {
				return flag
			}
		}
	}
	return nil
}

func flagsOf(node *kong.Node) []string {
	var names []string
	for ; node != nil; node = node.Parent {
		for _, flag := range node.Flags {
			if !flag.Hidden {
				names = append(names, "--"+flag.Name)
			}
		}
	}
	return names
}
