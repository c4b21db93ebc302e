package presence

// Sign is for the specification's example.
var Sign = sign
