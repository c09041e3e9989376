#!/bin/sh
# Fails where a program needs a later glibc than a board has.
#
#   deploy/glibc-floor.sh PROGRAM VERSION      such as 2.27
#
# Reads the versions of the symbols that the program imports (objdump -T), of
# whatever processor.
set -eu
program=$1 floor=$2
objdump=objdump
case $(od -An -tx1 -j18 -N1 "$program" | tr -d ' ') in
b7) objdump=aarch64-linux-gnu-objdump ;;
esac
needed=$($objdump -T "$program" | grep -oE 'GLIBC_[0-9.]+' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
latest=$(printf '%s\n%s\n' "$needed" "$floor" | sort -V | tail -n 1)
if [ "$latest" != "$floor" ]; then
    echo "error: $program needs glibc $needed, boards have $floor" >&2
    exit 1
fi
echo "$program needs glibc $needed, boards have $floor"
