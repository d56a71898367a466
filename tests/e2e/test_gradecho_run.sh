#!/usr/bin/env bash
#
# test_gradecho_run.sh - what gradecho-run promises, with stand-ins for the
# gradecho program and the training; mpirun is the real one.
#
# usage: test_gradecho_run.sh [GRADECHO_RUN]
#
# Each check is a sentence. The stand-ins write what happens to them into
# $events, one line each, so that orders can be told.
set -u

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
run=${1:-$here/../../launch/gradecho-run}
folder=$(mktemp -d)
session=gradecho-run-test-$$
segment=/dev/shm/gradecho.$session.0 segment1=/dev/shm/gradecho.$session.1
failures=0 checks=0 monitor=''

cleanup() {
    # The monitor that refuses all signals, if gradecho-run failed to end it.
    [[ -z $monitor ]] || kill -KILL "$monitor" 2>/dev/null
    rm -rf "$folder" "$segment" "$segment1" "$segment.x"
}
trap cleanup EXIT

export events=$folder/events output=$folder/output segment segment1
export GRADECHO_BIN=$folder/gradecho

# check SENTENCE COMMAND...: COMMAND must succeed.
check() {
    local sentence=$1

    shift
    checks=$((checks + 1))
    if "$@"; then
        printf 'ok: %s\n' "$sentence"
    else
        failures=$((failures + 1))
        printf 'FAILED: %s (%s)\n' "$sentence" "$*"
        sed 's/^/    event: /' "$events"
        sed 's/^/    output: /' "$output"
    fi
}

equal() {
    [[ $1 == "$2" ]] || {
        printf '    expected %s, got %s\n' "$2" "$1"
        return 1
    }
}

says() { grep -qE -- "$1" "$output"; }
says_not() { ! says "$1"; }
happened() { grep -qxE -- "$1" "$events"; }
count() { grep -cxE -- "$1" "$events"; }
one_line() { [[ $(wc -l <"$output") == 1 ]]; }
gone() { [[ ! -e $1 ]]; }
# A zombie is dead: when it is reaped is up to its parent, as a rule init.
dead() { ! grep -qs '^State:.[^ZX]' "/proc/$1/status"; }

# before A B: both happened, the last A before the first B.
before() {
    local a b

    a=$(grep -nxE -- "$1" "$events" | tail -n 1 | cut -d: -f1)
    b=$(grep -nxE -- "$2" "$events" | head -n 1 | cut -d: -f1)
    [[ -n $a && -n $b ]] && ((a < b))
}

# Wait, at most 20 s, until COMMAND succeeds.
until_true() {
    local left=200

    until "$@"; do
        ((left-- > 0)) || return 1
        sleep 0.1
    done
}

# stand_in NAME <SCRIPT
stand_in() {
    { printf '#!/usr/bin/env bash\n' && cat; } >"$folder/$1"
    chmod +x "$folder/$1"
}

# A monitor that ends when the segment goes, as the real one does.
good_monitor() {
    stand_in gradecho <<'END'
echo "monitor $*" >>"$events"
trap 'echo "monitor USR1" >>"$events"; exit 0' USR1
trap 'echo "monitor INT" >>"$events"; exit 1' INT
until [[ -e $segment ]]; do sleep 0.05; done
while [[ -e $segment ]]; do sleep 0.05; done
echo "monitor done" >>"$events"
END
}

# start ARGUMENT...: gradecho-run in a process group of its own, $pid. Python
# starts it, because a shell would let it ignore SIGINT.
start() {
    : >"$events"
    python3 -c '
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.setpgid(0, 0)
os.execv(sys.argv[1], sys.argv[1:])' "$run" "$@" \
        <&0 >"$output" 2>&1 &
    pid=$!
}

finish() {
    wait "$pid"
    code=$?
}

try() {
    start "$@"
    finish
}

usage_error() {
    local sentence=$1 pattern=$2

    shift 2
    try "$@"
    check "$sentence: exit code 2" equal "$code" 2
    check "$sentence: one line that says so" one_line
    check "$sentence: the line names it" says "$pattern"
    check "$sentence: nothing was started" equal "$(wc -l <"$events")" 0
}

# --- usage ------------------------------------------------------------------

good_monitor
touch "$events"
usage_error "no -n" '-n R' -- true
usage_error "-n 0" '"0"' -n 0 -- true
usage_error "-n without a value" '-n needs' -n
usage_error "no command" 'after --' -n 1
usage_error "an unknown option" '--bogus' -n 1 --bogus -- true
usage_error "a session with a slash" 'a/b' -n 1 --session a/b -- true
usage_error "--set without a value" 'KEY=VALUE' -n 1 --set key -- true
usage_error "a configuration that is not there" '/no/file' \
    -n 1 -c /no/file -- true
usage_error "a log in a folder that is not there" '/no/folder' \
    -n 1 --log /no/folder/a.h5 -- true
usage_error "a timeout in words" 'soon' -n 1 --timeout soon -- true
usage_error "--restarts in words" 'often' -n 1 --restarts often -- true
usage_error "a negative pause" '"-1"' -n 1 --restart-pause -1 -- true
usage_error "a pause of nothing" 'more than 0' -n 1 --restart-pause 0.0 -- true
usage_error "--restart alone" 'unknown option --restart;' -n 1 --restart 1 -- true
GRADECHO_BIN=$folder/none usage_error "no gradecho program" \
    'GRADECHO_BIN' -n 1 -- true
try -n 1 -- "$folder/none"
check "a command that is not there: exit code 127" equal "$code" 127
try --help
check "--help: exit code 0" equal "$code" 0
check "--help shows an example" says '^example: gradecho-run'

# --- a good run -------------------------------------------------------------

stand_in training <<'END'
echo "training session $GRADECHO_SESSION" >>"$events"
echo "training threads ${OPENBLAS_NUM_THREADS-unset}" >>"$events"
echo "training ranks ${OMPI_COMM_WORLD_SIZE-unset}" >>"$events"
read -r line && echo "training read $line" >>"$events"
: >"$segment" && : >"$segment1"
exec 9<"$segment"
until grep -q '^monitor monitor' "$events"; do sleep 0.05; done
sleep 0.5
rm "$segment" "$segment1"
echo "training done" >>"$events"
exit "$1"
END

unset OPENBLAS_NUM_THREADS
for wanted in 0 7; do
    start -n 2 --session "$session" --log "$folder/a.h5" --set a.b=c \
        --overwrite -- "$folder/training" "$wanted" < <(echo hello)
    finish
    check "the training's exit code $wanted is returned" \
        equal "$code" "$wanted"
done
check "two monitors were started with the options" equal 2 "$(count \
    "monitor monitor --session $session --log $folder/a.h5 --set a.b=c --overwrite")"
check "the training knows the session" \
    happened "training session $session"
check "the training's BLAS is left alone" happened "training threads unset"
check "the training is in no MPI job of ours" happened "training ranks unset"
check "the training reads its standard input" happened "training read hello"
check "the monitors end by themselves, after the training" \
    before "monitor monitor.*" "monitor done"
check "no monitor was signalled" equal 0 "$(count 'monitor USR1')"
check "a good run has no warning" says_not warning

stand_in training <<'END'
until grep -q '^monitor monitor' "$events"; do sleep 0.05; done
END
try -n 1 -- "$folder/training"
check "names are generated: a session, and a log with date and time" \
    happened "monitor monitor --session [A-Za-z0-9._-]{1,63} --log \
gradecho-[0-9]{8}-[0-9]{6}\.h5"

# --- signals ----------------------------------------------------------------

stand_in training <<'END'
trap 'echo "training INT" >>"$events"; stop=1' INT
trap 'echo "training TERM" >>"$events"; stop=1' TERM
: >"$segment" && : >"$segment1"
stop=0
echo "training ready" >>"$events"
until ((stop)); do sleep 0.05; done
sleep 1
echo "training done" >>"$events"
rm "$segment" "$segment1"
exit 0
END

# signalled SIGNAL CODE TARGET WHO
signalled() {
    start -n 2 --session "$session" --log "$folder/a.h5" \
        -- "$folder/training"
    until_true happened "training ready"
    until_true happened "monitor monitor.*"
    if [[ $3 == group ]]; then
        kill -s "$1" -- "-$pid"
    else
        kill -s "$1" "$pid"
    fi
    finish
    check "$1 to the $3: exit code $2" equal "$code" "$2"
    check "$1 to the $3: the training gets it once" \
        equal "$(count "training $1")" 1
    check "$1 to the $3: no monitor gets it" equal 0 "$(count 'monitor INT')"
    check "$1 to the $3: the monitors end after the training" \
        before "training done" "monitor done"
}
signalled INT 130 process
signalled INT 130 group
signalled TERM 143 process
signalled TERM 143 group

# --- monitors that die ------------------------------------------------------

# A training that waits until gradecho-run has said something, or 60 s.
training_until_said() {
    stand_in training <<END
left=600
until grep -qE '$1' "\$output" || ((left-- == 0)); do sleep 0.1; done
echo "training done" >>"\$events"
exit 5
END
}

warnings() { grep -c 'gradecho-run: warning' "$output"; }

stand_in gradecho <<'END'
echo "monitor $*" >>"$events"
[[ $1 != recover ]] || exec test ! -e "$2.bad"
echo "scratch $TMPDIR" >>"$events"
: >"$log"
exit 3
END
export log=$folder/a.h5
training_until_said 'not started any more'
try -n 1 --session "$session" --log "$log" --overwrite --restarts 2 \
    --restart-pause 0.1 -- "$folder/training"
arguments="monitor monitor --session $session --log $log"
check "a dead monitor does not stop the training" happened "training done"
check "a dead monitor does not change the exit code" equal "$code" 5
check "dead monitors are started again, so often and no more" \
    equal 3 "$(count "$arguments .*")"
check "the first ones get the options" \
    equal "$arguments --overwrite" "$(grep '^monitor' "$events" | head -n 1)"
check "the next ones go on with the log" equal 2 "$(count "$arguments --resume")"
check "each restart is a warning that tells the pause, which grows" \
    equal "$(grep 'gradecho-run: warning' "$output" | head -n 2)" \
    "gradecho-run: warning: the monitors ended with exit code 3; the training \
is not affected; restart 1 of 2 in 0.100 s
gradecho-run: warning: the monitors ended with exit code 3; the training is \
not affected; restart 2 of 2 in 0.200 s"
check "the end of it is one more, the last" equal "$(warnings)" 3
check "the log is recovered after the training" \
    before "training done" "monitor recover $log"
scratch=$(sed -n 's/^scratch //p' "$events" | sort -u)
check "MPI's files lie in a folder of the run" \
    [ "${scratch#/dev/shm/gradecho-run.}" != "$scratch" ]
check "which is gone afterwards" gone "$scratch"

touch "$log.bad"
try -n 1 --session "$session" --log "$log" --restarts 0 -- "$folder/training"
check "--restarts 0: no second start" equal 1 "$(count "$arguments.*")"
check "a log that cannot be recovered is one more warning" \
    equal "2 1" "$(warnings) $(grep -c "gradecho recover $log" "$output")"

stand_in gradecho <<'END'
echo "monitor $*" >>"$events"
exit 3
END
try -n 1 --session "$session" --log "$log" --overwrite --restarts 1 \
    --restart-pause 0.1 -- "$folder/training"
check "a log that the dead monitors had not touched is not gone on with" \
    equal 2 "$(count "$arguments --overwrite")"

stand_in gradecho <<'END'
echo "monitor $*" >>"$events"
exit 2
END
training_until_said 'not affected'
try -n 1 --session "$session" --log "$log" -- "$folder/training"
check "monitors that refuse their input are not started again" \
    equal 1 "$(count "$arguments")"
check "that is one warning" equal "$(warnings)" 1
check "which says that the training goes on" \
    equal "$(grep 'gradecho-run: warning' "$output")" \
    "gradecho-run: warning: the monitors ended with exit code 2; the training \
is not affected"
check "and a log that was there before is not touched" \
    equal 0 "$(count "monitor recover.*")"

# Life, then death: the first of them by the command given, the second is good.
mortal_monitor() {
    good_monitor
    cat >>"$folder/gradecho" <<<"exit"
    sed -i "2i if mkdir '$folder/first' 2>/dev/null; then\\n\
echo \"first \$\$\" >>\"\$events\"\\n: >\"\$log\"\\n$1\\nfi" "$folder/gradecho"
    rm -rf "$folder/first"
}
stand_in training <<'END'
: >"$segment"
exec 9<"$segment"
until grep -q '^monitor .*--resume' "$events"; do sleep 0.05; done
sleep 0.5
rm "$segment"
exit 6
END

# killed WHAT COMMAND
killed() {
    mortal_monitor "$2"
    try -n 1 --session "$session" --log "$log" --restart-pause 0.1 \
        -- "$folder/training"
    check "$1 is killed: started again" equal 1 "$(count "$arguments --resume")"
    check "$1 is killed: the exit code is the training's" equal "$code" 6
    check "$1 is killed: one warning, with 128 + 9" equal "1 1" \
        "$(warnings) $(grep -c 'warning.* 137' "$output")"
    check "$1 is killed: bash has nothing to add" says_not '[0-9] Killed'
    check "$1 is killed: none is left" \
        dead "$(sed -n 's/^first //p' "$events")"
    check "$1 is killed: the next ones end by themselves" happened "monitor done"
}
# shellcheck disable=SC2016 # the stand-in expands
killed "a monitor" 'kill -KILL $$'
# shellcheck disable=SC2016
killed "mpirun" 'trap "" TERM HUP; kill -KILL $PPID; while :; do sleep 1; done'

# --- trainings that start anew ----------------------------------------------

# shellcheck disable=SC2016
mortal_monitor 'until [[ -e $segment ]]; do sleep 0.05; done; exit 0'
stand_in training <<'END'
: >"$segment"
exec 9<"$segment"
until grep -q '^first' "$events"; do sleep 0.05; done
sleep 2.5 # long enough to see that the same segment is no reason
echo "training anew" >>"$events"
: >"$segment.new"
mv "$segment.new" "$segment"
exec 9<"$segment"
until grep -q '^monitor .*--resume' "$events"; do sleep 0.05; done
sleep 0.5
rm "$segment"
exit 0
END
try -n 1 --session "$session" --log "$log" -- "$folder/training"
check "monitors that ended with the trainers meet the next ones" \
    before "training anew" "$arguments --resume"
check "that is no reason to warn" says_not warning

# --- gradecho-run is killed -------------------------------------------------

good_monitor
# shellcheck disable=SC2016
sed -i '2i echo "scratch $TMPDIR" >>"$events"' "$folder/gradecho"
stand_in training <<'END'
: >"$segment"
exec 9<"$segment"
echo "training ready" >>"$events"
until [[ -e $segment.x ]]; do sleep 0.05; done
rm "$segment"
echo "training done" >>"$events"
END
start -n 1 --session "$session" --log "$log" -- "$folder/training"
until_true happened "training ready"
until_true happened "monitor monitor.*"
kill -KILL "$pid"
{ finish; } 2>/dev/null # bash tells of the kill
: >"$segment.x"
check "without gradecho-run the training goes on" \
    until_true happened "training done"
check "without gradecho-run the monitors end with it" \
    until_true happened "monitor (done|USR1)"
check "without gradecho-run MPI's files go as well" \
    until_true gone "$(sed -n 's/^scratch //p' "$events")"
rm -f "$segment.x"

# --- a training that hands nothing over -------------------------------------

good_monitor
stand_in training <<'END'
until grep -q '^monitor monitor' "$events"; do sleep 0.05; done
sleep 0.5
echo "training done" >>"$events"
END
before_s=$SECONDS
try -n 1 --session "$session" --log "$folder/a.h5" --timeout 60 \
    -- "$folder/training"
check "without a segment nobody waits" test $((SECONDS - before_s)) -lt 20
check "without a segment the monitors get SIGUSR1" happened "monitor USR1"
check "without a segment there is one warning" \
    equal "$(grep -c 'gradecho-run: warning' "$output")" 1
check "the warning says how to attach" says 'gradecho_open'
check "without a segment the exit code is the training's" equal "$code" 0

good_monitor
stand_in training <<'END'
until grep -q '^monitor monitor' "$events"; do sleep 0.05; done
: >"$segment"
sleep 0.3
rm "$segment"
END
try -n 1 --session "$session" --log "$folder/a.h5" -- "$folder/training"
check "a training of a moment has not handed nothing over" says_not 'no gradients'

stand_in gradecho <<'END'
echo "monitor $*" >>"$events"
trap 'echo "monitor USR1" >>"$events"; exit 0' USR1
while :; do sleep 0.05; done
END
before_s=$SECONDS
stand_in training <<'END'
: >"$segment"
exec 9<"$segment"
until grep -q '^monitor monitor' "$events"; do sleep 0.05; done
rm "$segment"
END
try -n 2 --session "$session" --log "$folder/a.h5" --timeout 60 \
    -- "$folder/training"
check "monitors that wait for trainers that never came are ended" \
    happened "monitor USR1"
check "at once" test $((SECONDS - before_s)) -lt 20
check "and without a warning" says_not warning

# --- monitors that do not end -----------------------------------------------

stand_in training <<'END'
: >"$segment"
: >"$segment.x"
until grep -q '^monitor monitor' "$events"; do sleep 0.05; done
sleep 0.5
echo "training done" >>"$events"
exit 4
END
try -n 1 --session "$session" --log "$folder/a.h5" --timeout 1 \
    -- "$folder/training"
check "after the timeout the monitors get SIGUSR1" happened "monitor USR1"
check "SIGUSR1 comes after the training" before "training done" "monitor USR1"
check "a late monitor does not change the exit code" equal "$code" 4
check "the segment of a dead trainer is removed" gone "$segment"
check "a file of another session stays" test -e "$segment.x"
rm -f "$segment.x"

stand_in gradecho <<'END'
[[ $1 != recover ]] || exec rm "$2"
echo "monitor $$" >>"$events"
: >"$log"
trap '' USR1 TERM
while :; do sleep 0.05; done
END
sed -i 's/^monitor monitor/monitor/; s/\^monitor monitor/^monitor/' \
    "$folder/training"
try -n 1 --session "$session" --log "$folder/a.h5" --timeout 1 \
    -- "$folder/training"
monitor=$(sed -n 's/^monitor //p' "$events")
check "a monitor that refuses all signals is gone in the end" \
    until_true dead "$monitor"
check "and the exit code is still the training's" equal "$code" 4
check "and its log is recovered" gone "$log"
rm -f "$segment.x"

# --- a segment that a live process holds ------------------------------------

good_monitor
truncate -s 4096 "$segment"
python3 -c '
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 4096)
print("mapped", flush=True)
sys.stdin.read()' "$segment" >"$folder/holder" < <(
    until [[ -e $folder/release ]]; do sleep 0.1; done
) &
holder=$!
until_true test -s "$folder/holder"
try -n 1 --session "$session" --log "$folder/a.h5" --timeout 0 -- true
check "a segment that a live process maps stays" test -e "$segment"
touch "$folder/release"
wait "$holder"

printf '%d checks, %d failed\n' "$checks" "$failures"
((failures == 0))
