package maps

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
)

// What one run of an expression may cost. The library bounds the lists that its machine makes and knows no bound of
// steps; so each turn of a loop passes a meter, and whatever makes a text, a list or an object shows it to the meter,
// which counts its bytes to the deepest element. What could multiply a text in one step is our own, and looks before it
// makes anything.
const (
	maxExpression = 4096            // bytes of an expression
	maxNodes      = 1000            // of its tree
	maxTurns      = 100_000         // of all loops together
	maxMade       = 8 << 20         // bytes made
	maxListed     = 200_000         // elements of ranges and lists, as the library counts them
	maxRun        = 2 * time.Second // what lies between two looks at the meter is bounded by what was made
)

// program is a compiled expression.
type program struct {
	text     string
	compiled *vm.Program
}

// upward is what the expressions of maps see.
type upward struct {
	Topic    string            `expr:"topic"`
	Levels   []string          `expr:"levels"`
	Vars     map[string]string `expr:"vars"` // what the names of the topic's pattern stand for
	Payload  string            `expr:"payload"`
	JSON     any               `expr:"json"` // nil where the payload is not JSON
	Retained bool              `expr:"retained"`
	Meter    *meter            `expr:"_meter"`
}

// downward is what the expressions of commands see.
type downward struct {
	ID      string            `expr:"id"`
	Command string            `expr:"command"` // its id
	Method  string            `expr:"method"`
	Params  any               `expr:"params"`
	Vars    map[string]string `expr:"vars"`
	Values  map[string]any    `expr:"values"` // of done_when: what the device has said since
	Result  any               `expr:"result"` // of match: the answer's
	Meter   *meter            `expr:"_meter"`
}

// compileProgram compiles an expression for env; nil of an empty one.
func compileProgram(text string, env any, asBool bool) (*program, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no expression
	}
	if len(text) > maxExpression {
		return nil, fmt.Errorf("the expression has %d bytes; at most %d", len(text), maxExpression)
	}
	patch := &bounding{}
	options := []expr.Option{
		expr.Env(env), expr.MaxNodes(maxNodes), expr.Optimize(false), expr.Patch(patch),
		expr.Function("_turn", turn, new(func(*meter) bool)), expr.Function("_made", made, new(func(*meter, any) any)),
		// Not a function of the message alone, or a loop within a loop that no meter sees.
		expr.DisableBuiltin("now"), expr.DisableBuiltin("uniq"),
	}
	for name, of := range map[string]func(...any) (any, error){"replace": replace, "repeat": repeat, "join": join, "concat": concat} {
		options = append(options, expr.DisableBuiltin(name), expr.Function(name, of))
	}
	if asBool {
		options = append(options, expr.AsBool())
	}
	compiled, err := expr.Compile(text, options...)
	if err == nil {
		err = patch.fault
	}
	if err != nil {
		return nil, fmt.Errorf("expression: %s", firstLine(err))
	}
	return &program{text, compiled}, nil
}

// firstLine leaves the drawing out that the library makes of the place.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimSpace(line)
}

// run returns the expression's value.
func (p *program) run(machine *vm.VM, env any) (out any, err error) {
	machine.MemoryBudget = maxListed
	out, err = machine.Run(p.compiled, env)
	if err == nil {
		return out, nil
	}
	if over, ok := errors.AsType[errMeter](err); ok {
		return nil, over
	}
	return nil, fmt.Errorf("expression: %s", firstLine(err))
}

// holds returns the value of an expression that is a condition; true of none.
func (p *program) holds(machine *vm.VM, env any) (bool, error) {
	if p == nil {
		return true, nil
	}
	out, err := p.run(machine, env)
	if err != nil {
		return false, err
	}
	is, ok := out.(bool)
	if !ok {
		return false, fmt.Errorf("expression: it is neither true nor false, but %T", out)
	}
	return is, nil
}

// result writes an expression's value as JSON.
func result(dst []byte, out any) ([]byte, error) {
	text, err := json.Marshal(plain(out))
	if err != nil {
		if unsupported, ok := errors.AsType[*json.UnsupportedValueError](err); ok {
			return nil, fmt.Errorf("expression: its result has %s, which JSON has no word for", unsupported.Str)
		}
		return nil, fmt.Errorf("expression: %w", err)
	}
	return append(dst, text...), nil
}

// plain names the members of objects by texts, which fromPairs does not.
func plain(v any) any {
	switch v := v.(type) {
	case map[any]any:
		out := make(map[string]any, len(v))
		for name, inner := range v {
			out[fmt.Sprint(name)] = plain(inner)
		}
		return out
	case map[string]any:
		for name, inner := range v {
			v[name] = plain(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = plain(inner)
		}
	}
	return v
}

// meter counts what a run costs.
type meter struct {
	turns int
	bytes int
	began time.Time
}

func newMeter() *meter { return &meter{began: time.Now()} }

// errMeter says that a run has cost too much.
type errMeter struct{ message string }

func (e errMeter) Error() string { return "expression: " + e.message }

func turn(args ...any) (any, error) {
	m, ok := args[0].(*meter)
	if !ok {
		return nil, errMeter{"no meter"}
	}
	if m.turns++; m.turns > maxTurns {
		return nil, errMeter{fmt.Sprintf("its loops turn more than %d times", maxTurns)}
	}
	if time.Since(m.began) > maxRun {
		return nil, errMeter{fmt.Sprintf("it takes more than %s", maxRun)}
	}
	return true, nil
}

func made(args ...any) (any, error) {
	m, ok := args[0].(*meter)
	if !ok {
		return nil, errMeter{"no meter"}
	}
	if m.bytes += size(args[1], maxMade-m.bytes, 0); m.bytes > maxMade {
		return nil, tooMuch()
	}
	return args[1], nil
}

func tooMuch() error { return errMeter{fmt.Sprintf("it makes more than %d bytes", maxMade)} }

// size returns the bytes of a value and of all within it, and stops counting above limit.
func size(v any, limit, depth int) int {
	const head = 16
	total := head
	switch v := v.(type) {
	case string:
		return head + len(v)
	case []any:
		for _, one := range v {
			if total > limit || depth > maxNodes {
				return limit + 1
			}
			total += size(one, limit-total, depth+1)
		}
		return total
	case map[string]any:
		for name, one := range v {
			if total > limit || depth > maxNodes {
				return limit + 1
			}
			total += len(name) + size(one, limit-total, depth+1)
		}
		return total
	}
	if of := reflect.ValueOf(v); of.IsValid() {
		switch of.Kind() {
		case reflect.Slice, reflect.Array:
			for i := range of.Len() {
				if total > limit || depth > maxNodes {
					return limit + 1
				}
				total += size(of.Index(i).Interface(), limit-total, depth+1)
			}
		case reflect.Map:
			for each := of.MapRange(); each.Next(); {
				if total > limit || depth > maxNodes {
					return limit + 1
				}
				total += size(each.Key().Interface(), limit-total, depth+1) + size(each.Value().Interface(), limit-total, depth+1)
			}
		}
	}
	return total
}

// bounding puts the meter into an expression's tree.
type bounding struct{ fault error }

// Visit implements ast.Visitor; the nodes within come first.
func (b *bounding) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.PredicateNode:
		n.Node = &ast.SequenceNode{Nodes: []ast.Node{call("_turn"), n.Node}}
	case *ast.BuiltinNode, *ast.ArrayNode, *ast.MapNode:
		b.wrap(node)
	case *ast.CallNode:
		if callee, ok := n.Callee.(*ast.IdentifierNode); !ok || callee.Value != "_turn" && callee.Value != "_made" {
			b.wrap(node)
		}
	case *ast.IdentifierNode:
		if strings.HasPrefix(n.Value, "_") {
			b.fault = fmt.Errorf("unknown name %s", n.Value)
		}
	case *ast.BinaryNode:
		switch n.Operator {
		case "+":
			if !isNumber(n.Left) && !isNumber(n.Right) {
				b.wrap(node)
			}
		case "..":
			b.wrap(node)
		case "matches":
			if _, ok := n.Right.(*ast.StringNode); !ok {
				b.fault = errors.New("what stands after matches is a text in quotes, so that it is checked here and not with each message")
			}
		}
	}
}

func (b *bounding) wrap(node *ast.Node) { *node = call("_made", *node) }

func call(name string, more ...ast.Node) ast.Node {
	return &ast.CallNode{
		Callee:    &ast.IdentifierNode{Value: name},
		Arguments: append([]ast.Node{&ast.IdentifierNode{Value: "_meter"}}, more...),
	}
}

func isNumber(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return true
	case *ast.BinaryNode:
		return n.Operator != "+" && n.Operator != ".." && strings.Contains("-*/%**", n.Operator)
	}
	return false
}

// replace is the library's function of this name, which looks at what it will make.
func replace(args ...any) (any, error) {
	if len(args) != 3 && len(args) != 4 {
		return nil, errors.New("replace(text, from, to) has three or four arguments")
	}
	s, ok1 := args[0].(string)
	from, ok2 := args[1].(string)
	to, ok3 := args[2].(string)
	if !ok1 || !ok2 || !ok3 {
		return nil, errors.New("replace(text, from, to): texts")
	}
	times := -1
	if len(args) == 4 {
		n, ok := args[3].(int)
		if !ok {
			return nil, errors.New("replace(text, from, to, n): n is a whole number")
		}
		times = n
	}
	if len(s)+strings.Count(s, from)*len(to) > maxMade {
		return nil, tooMuch()
	}
	return strings.Replace(s, from, to, times), nil
}

func repeat(args ...any) (any, error) {
	if len(args) != 2 {
		return nil, errors.New("repeat(text, n) has two arguments")
	}
	s, ok := args[0].(string)
	n, whole := args[1].(int)
	if !ok || !whole || n < 0 {
		return nil, errors.New("repeat(text, n): a text and a whole number from 0")
	}
	if n > maxMade || len(s)*n > maxMade {
		return nil, tooMuch()
	}
	return strings.Repeat(s, n), nil
}

func join(args ...any) (any, error) {
	if len(args) != 1 && len(args) != 2 {
		return nil, errors.New("join(list, separator) has one or two arguments")
	}
	glue := ""
	if len(args) == 2 {
		var ok bool
		if glue, ok = args[1].(string); !ok {
			return nil, errors.New("join(list, separator): the separator is a text")
		}
	}
	list := reflect.ValueOf(args[0])
	if !list.IsValid() || list.Kind() != reflect.Slice {
		return nil, errors.New("join(list, separator): a list of texts")
	}
	parts := make([]string, list.Len())
	total := 0
	for i := range parts {
		s, ok := textOf(list.Index(i))
		if !ok {
			return nil, errors.New("join(list, separator): a list of texts")
		}
		parts[i] = s
		if total += len(s) + len(glue); total > maxMade {
			return nil, tooMuch()
		}
	}
	return strings.Join(parts, glue), nil
}

// textOf returns the text of an element, of a list of texts or of anything.
func textOf(of reflect.Value) (string, bool) {
	if of.Kind() == reflect.Interface {
		of = of.Elem()
	}
	return reflect.TypeAssert[string](of)
}

func concat(args ...any) (any, error) {
	var all []any
	for _, arg := range args {
		list := reflect.ValueOf(arg)
		if !list.IsValid() || list.Kind() != reflect.Slice {
			return nil, errors.New("concat(list, …): lists")
		}
		if len(all)+list.Len() > maxListed {
			return nil, tooMuch()
		}
		for i := range list.Len() {
			all = append(all, list.Index(i).Interface())
		}
	}
	return all, nil
}

// treeOf reads JSON text for an expression; nil where it is none.
func treeOf(text []byte) any {
	var tree any
	if len(text) == 0 || json.Unmarshal(text, &tree) != nil {
		return nil
	}
	return tree
}
