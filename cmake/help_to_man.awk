# The --help of a script as its page in man(7). What it relies on:
#   usage: NAME ARGUMENTS         first line
#   Paragraphs of text.
#     --option VALUE  what it does, behind two blanks or on the next lines,
#                     which are indented by eight blanks or more
#   example: COMMAND              on a line of its own
# -v summary=TEXT is the line of NAME.

function plain(text) {
    gsub(/\\/, "\\e", text)
    gsub(/-/, "\\-", text)
    if (text ~ /^[.']/)
        text = "\\&" text
    return text
}

function section(name) {
    if (name != current)
        print ".SH " name
    current = name
    gap = 0
}

NR == 1 {
    name = $2
    version = "\"gradecho\""
    print ".TH " toupper(plain(name)) " 1 \"\" " version " \"gradecho\""
    section("NAME")
    print plain(name) " \\- " summary
    section("SYNOPSIS")
    print ".B " plain(name)
    sub(/^usage: [^ ]* /, "")
    print plain($0)
    next
}
/^$/ { gap = 1; next }
/^  -/ {
    section("OPTIONS")
    sub(/^ +/, "")
    at = match($0, /   */)
    print ".TP"
    print "\\fB" plain(at ? substr($0, 1, at - 1) : $0) "\\fR"
    if (at)
        print plain(substr($0, at + RLENGTH))
    next
}
/^        / { sub(/^ +/, ""); print plain($0); next }
/^example: / {
    section("EXAMPLES")
    sub(/^example: /, "")
    print ".RS 4\n.EX\n" plain($0) "\n.EE\n.RE"
    next
}
{
    if (current == "SYNOPSIS")
        section("DESCRIPTION")
    else if (current != "DESCRIPTION" && current != "NOTES")
        section("NOTES")
    if (gap)
        print ".PP"
    gap = 0
    print plain($0)
}
END {
    section("SEE ALSO")
    print ".BR gradecho (1),\n.BR gradecho\\-monitor (1)"
}
