#!/bin/sh
# Unpacks a release's archive and runs the release tool in it. $1: the tool's verb. $2: path of the archive.
set -eu
umask 022
folder=${2%.tar.gz}
rm -rf "$folder"
mkdir -m 0700 "$folder"
if ! tar -xzf "$2" -C "$folder" --no-same-owner; then
    rm -rf "$folder"
    echo "wsgi-ecs: release refused, its archive cannot be unpacked; what served before still does" >&2
    # The tool that is in place says what takes the room on a full disk.
    for tool in /srv/wsgi-ecs/host/current/tool /srv/wsgi-ecs/tool; do
        [ ! -f $tool/space.py ] || /usr/bin/python3 -B $tool/space.py >&2 || true
    done
    echo "wsgi-ecs: next: make room on the server's disk if it is full, raise release.generation, and run up again" >&2
    exit 1
fi
# A server that was given another size has just begun to start; a service that never does is no reason to wait for ever.
for _ in $(seq 60); do
    case $(systemctl is-system-running || true) in
    initializing | starting) sleep 1 ;;
    *) break ;;
    esac
done
exec /usr/bin/python3 -B "$folder/tool/release.py" "$1" "$folder"
