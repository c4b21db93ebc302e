# Sourced by the other scripts: says whether Node can build the dashboard. Vite 8 needs ^20.19 or >=22.12.

# node_fault prints what is wrong with Node here and how to mend it; it prints nothing if all is well.
node_fault() {
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        echo "Node.js is missing: install 22.12 or later with npm, https://nodejs.org/en/download"
        return
    fi
    if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number);
            process.exit((a === 20 && b >= 19) || (a === 22 && b >= 12) || a > 22 ? 0 : 1)'; then
        echo "Node.js $(node --version) is too old: install 22.12 or later, https://nodejs.org/en/download"
    fi
}
