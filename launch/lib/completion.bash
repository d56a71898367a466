# shellcheck shell=bash
# Completion of gradecho and gradecho-run in bash. What there is to choose from
# is known by the programs alone: gradecho --complete, gradecho-run --help.

# The words up to the cursor, as the user separates them; bash also does at
# "=" and ":". Fills `words`; the last one is to be completed.
_gradecho_words() {
    local line=${COMP_LINE:0:COMP_POINT}

    read -ra words <<<"$line"
    [[ $line != *[[:space:]] ]] || words+=('')
}

# _gradecho_files ENDING WORD: files of that ending, and folders; "": all.
_gradecho_files() {
    local file

    compopt -o filenames 2>/dev/null
    while IFS= read -r file; do
        [[ -n $1 && $file != *."$1" && ! -d $file ]] || COMPREPLY+=("$file")
    done < <(compgen -f -- "$2")
}

# _gradecho_ask PROGRAM WORD...: what PROGRAM makes of the last word.
_gradecho_ask() {
    local word=${*: -1} answer

    mapfile -t answer < <("$1" --complete "${@:2}" 2>/dev/null)
    if [[ ${answer[0]-} == :files* ]]; then
        [[ $word != --*=* ]] || word=${word#*=}
        read -r _ answer <<<"${answer[0]-}"
        _gradecho_files "${answer[0]-}" "$word"
        return
    fi
    COMPREPLY=("${answer[@]}")
    [[ ${answer[0]-} != *= ]] || compopt -o nospace 2>/dev/null
    # bash replaces only what stands behind its last separator.
    word=${word%"${word##*[=:]}"}
    COMPREPLY=("${COMPREPLY[@]#"$word"}")
}

_gradecho() {
    local words

    COMPREPLY=()
    _gradecho_words
    _gradecho_ask "${1/#~\//$HOME/}" "${words[@]:1}"
}

_gradecho_run() {
    local words word i gradecho=${1%-run}

    COMPREPLY=()
    _gradecho_words
    word=${words[-1]}
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        [[ ${words[i]} != -- ]] || break
    done
    if ((i < ${#words[@]} - 1)); then # the training command
        if declare -F _command_offset >/dev/null; then
            _command_offset "$((i + 1))"
        else
            mapfile -t COMPREPLY < <(compgen -c -- "$word")
        fi
        return
    fi
    type -P "$gradecho" >/dev/null || gradecho=gradecho
    case ${words[-2]} in
    -c | --log | --set | --session)
        _gradecho_ask "${gradecho/#~\//$HOME/}" monitor "${words[@]: -2}"
        ;;
    *)
        mapfile -t COMPREPLY < <(compgen -W \
            "$("${1/#~\//$HOME/}" --help | grep -oE '^ +-[-a-z]+(, --[-a-z]+)?' |
                tr ',' ' ') --" -- "$word")
        ;;
    esac
}

complete -F _gradecho gradecho
complete -F _gradecho_run gradecho-run
