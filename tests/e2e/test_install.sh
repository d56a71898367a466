#!/usr/bin/env bash
#
# test_install.sh BUILD CC SANITIZE - what `make install` gives is enough: a
# trainer written from the README compiles with nothing but pkg-config, and runs.
set -euo pipefail

build=$1 cc=$2 sanitize=${3:-}
prefix=$(mktemp -d)
trap 'rm -rf -- "$prefix"' EXIT

cmake --install "$build" --prefix "$prefix" >/dev/null
for file in bin/gradecho bin/gradecho-run include/gradecho/handoff.h \
    include/gradecho/status.h include/gradecho/version.h; do
    [[ -f $prefix/$file ]] || { echo "not installed: $file" && exit 1; }
done

cat >"$prefix/trainer.c" <<'END'
#include <gradecho/handoff.h>
#include <stdio.h>

int main(void)
{
    struct gradecho_layer layer = {"w", 2, 3, GRADECHO_F32};
    struct gradecho_options options = gradecho_options_default();
    gradecho *watch = NULL;

    options.session = "install-test";
    options.layers = &layer;
    options.layer_count = 1;
    if (gradecho_open(&options, &watch) != GRADECHO_OK) {
        fprintf(stderr, "%s\n", gradecho_message());
        return 1;
    }
    const int wanted = gradecho_begin(watch, 0);

    gradecho_close(&watch);
    return wanted == GRADECHO_NOT_WANTED && watch == NULL ? 0 : 1;
}
END
pc=$(find "$prefix" -name gradecho.pc)
export PKG_CONFIG_PATH=${pc%/*}
# The installed file names the prefix of the configuration; this one moved.
flags=$(pkg-config --define-prefix --cflags --libs gradecho)
# shellcheck disable=SC2086 # flags are words
"$cc" ${sanitize:+-fsanitize=$sanitize} -o "$prefix/trainer" \
    "$prefix/trainer.c" $flags
library=$(dirname "$(find "$prefix" -name libgradecho.so)")
LD_LIBRARY_PATH=$library "$prefix/trainer"

needed=$(readelf -d "$library/libgradecho.so" | grep NEEDED)
if grep -qiE 'mpi|blas|lapack|hdf5' <<<"$needed"; then
    echo "libgradecho.so needs more than it should: $needed" && exit 1
fi
strangers=$(nm -D --defined-only "$library/libgradecho.so" |
    awk '$2 ~ /[TDBR]/ && $3 !~ /^gradecho_/ { print $3 }')
[[ -z $strangers ]] || { echo "also exported: $strangers" && exit 1; }
"$prefix/bin/gradecho" --version
"$prefix/bin/gradecho-run" --help >/dev/null
echo "installed, compiled, ran"
