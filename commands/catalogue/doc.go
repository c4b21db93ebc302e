// Package catalogue owns what is known of the methods of a device's type: which there are, what their params look like
// (a JSON Schema, 2020-12), which of the params are secret, and on which terms a command is sent unless its sender says
// otherwise.
//
// It does not know devices, the ledger or the rights of operators: its caller says which type a device has and what it
// announced in hello, and asks before a command is recorded.
//
// A schema is compiled once, when the hub starts, and nothing outside it is ever read: a $ref leads into the schema
// itself or is a fault. A check is bounded by the size of the params, which the ledger limits: regular expressions are
// Go's, which take linear time, and numbers that no 64-bit float holds are refused before they are computed with.
//
// Files in reading order: catalogue.go (types and methods), schema.go (compiling, and what is wrong with a schema),
// check.go (what is wrong with params), apply.go (defaults and secrets).
package catalogue
