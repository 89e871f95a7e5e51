# Lines of source by top-level module, without tests; `make lines` runs it over every file twice.
# The first pass finds the modules that only tests have, the second counts.
function is_test_file(file,    part) {
    if (file in only_tests)
        return 1
    for (part in only_tests)
        if (index(file, substr(part, 1, length(part) - 3) "/") == 1)
            return 1
    return 0
}

FNR == 1 {
    directory = FILENAME
    sub("/[^/]*$", "", directory)
    children = FILENAME
    sub("(/(lib|main|mod))?[.]rs$", "", children)
    module = FILENAME
    gsub("^src/|[.]rs$", "", module)
    sub("/.*$", "", module)
    after_cfg = in_tests = 0
    skipped = pass == 2 && is_test_file(FILENAME)
}

skipped { next }

# An item that only tests have, up to the brace or the semicolon that ends it.
in_tests {
    if ($0 ~ "^" indent "}")
        in_tests = 0
    next
}
/^ *#\[cfg\(test\)\]/ {
    indent = $0
    sub("#.*$", "", indent)
    after_cfg = 1
    path = ""
    next
}
after_cfg && /^ *#\[path = / {
    split($0, quoted, "\"")
    path = directory "/" quoted[2]
    next
}
after_cfg && /^ *#\[/ { next }
after_cfg {
    after_cfg = 0
    if ($0 ~ /^ *(pub(\([a-z]+\))? )?mod [a-z_0-9]+;/) {
        name = $0
        sub("^.*mod ", "", name)
        sub(";.*$", "", name)
        only_tests[path ? path : children "/" name ".rs"]
    } else if ($0 !~ /;$/ && $0 !~ /}$/) {
        in_tests = 1
    }
    next
}

pass == 2 {
    if ($0 ~ /^[ \t]*$/)
        kind = "blank"
    else if ($0 ~ /^[ \t]*\/\//)
        kind = "comments"
    else
        kind = "code"
    modules[module]
    lines[module, kind]++
    total[kind]++
}

function row(name, code, comments, blank) {
    return sprintf("%-16s %7d %9d %6d %7d", name, code, comments, blank, code + comments + blank)
}

END {
    printf "%-16s %7s %9s %6s %7s\n", "module", "code", "comments", "blank", "all"
    fflush()
    for (module in modules)
        print row(module, lines[module, "code"], lines[module, "comments"], lines[module, "blank"]) | "sort -k2,2nr -k1,1"
    close("sort -k2,2nr -k1,1")
    print row("total", total["code"], total["comments"], total["blank"])
}
