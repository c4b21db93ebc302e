# Reads `go test -v`: a line for a package that passes, everything but the passing tests for one that fails. Notes the
# reasons of skipped tests in the file left_out.

# The current test, whose log lines follow.
/^=== (RUN|NAME|CONT) / { name = $3; next }
/^=== PAUSE / { next }

# A log line: "    file_test.go:12: message".
/^ +[A-Za-z0-9_.-]+\.go:[0-9]+: / {
    message = $0
    sub(/^ +[A-Za-z0-9_.-]+\.go:[0-9]+: /, "", message)
    last[name] = message
    kept[++lines] = $0
    next
}

/^ *--- SKIP: / {
    reason = last[$3]
    if (reason != "") print reason >> left_out
    next
}
/^ *--- PASS: / { next }
/^PASS$/ { next }

# The end of a package.
/^ok[ \t]/ { print; fflush(); forget(); next }
/^\?[ \t]/ { forget(); next } # no test files
/^FAIL\t/ || /^FAIL .*\[/ {
    for (i = 1; i <= lines; i++) print kept[i]
    print; fflush(); forget(); bad = 1
    next
}
# A package without tests ends with its coverage only.
/^\t.*coverage: / { next }

{ kept[++lines] = $0 }

END {
    for (i = 1; i <= lines; i++) print kept[i]
    exit bad
}

function forget() { lines = 0; delete last; name = "" }
