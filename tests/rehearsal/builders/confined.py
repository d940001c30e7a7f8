"""What an application tries that it may do, and what it may not: a page for the sample application."""

# Each step says "yes", or why not.
PAGE = """

@app.route("/tries/<path:url>")
def tries(url):
    import ctypes
    import json
    import multiprocessing
    import resource
    import subprocess
    import tempfile
    import threading
    import urllib.request

    libc = ctypes.CDLL(None, use_errno=True)
    file = os.path.join(os.environ["DATA_DIR"], "tried")

    def call(name, *arguments):
        if getattr(libc, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)

    def thread():
        found = []
        started = threading.Thread(target=found.append, args=(1,))
        started.start()
        started.join()
        multiprocessing.Lock()
        assert found

    steps = {
        "data": lambda: open(file, "w").write("x"),
        "group": lambda: os.chown(file, -1, os.getgid()),
        "temporary": lambda: tempfile.NamedTemporaryFile(prefix="tried-", delete=False).close(),
        "shared memory": lambda: tempfile.TemporaryFile(dir="/dev/shm").close(),
        "callback": lambda: ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1)(),
        "thread": thread,
        "program": lambda: subprocess.run(["sh", "-c", "id | cat"], check=True, stdout=subprocess.PIPE),
        "name": lambda: socket.getaddrinfo("localhost", 80),
        "connection": lambda: socket.create_connection(("127.0.0.1", 80), 3).close(),
        "metadata": lambda: urllib.request.urlopen("http://" + url, timeout=3).close(),
        "namespace": lambda: call("unshare", 0x10000000),
        "trace": lambda: call("ptrace", 0, 0, 0, 0),
        "family": lambda: socket.socket(38, socket.SOCK_SEQPACKET).close(),
        "group of a file": lambda: os.chmod(file, 0o2600),
    }
    found = {}
    for name, step in steps.items():
        try:
            step()
            found[name] = "yes"
        except Exception as error:
            found[name] = str(error)
    with open("/proc/self/status") as lines:
        status = dict(line.strip().split(":\\t", 1) for line in lines if ":\\t" in line)
    print("tried", flush=True)
    found["state"] = [status["NoNewPrivs"], status["CapEff"], resource.getrlimit(resource.RLIMIT_CORE)[0]]
    return json.dumps(found)
"""
MAY = (
    "data",
    "group",
    "temporary",
    "shared memory",
    "callback",
    "thread",
    "program",
    "name",
    "connection",
    "group of a file",
)
MAY_NOT = ("metadata", "namespace", "trace", "family")

# The addresses of the metadata, of a machine beyond this one as in the cloud: an own one would be reached in any case.
METADATA = ("100.100.100.200", "169.254.169.254")
SERVE_METADATA = """
mkdir -p /run/metadata
systemctl stop metadata 2>/dev/null || true
systemd-run -q --unit=metadata -p PrivateNetwork=yes python3 -m http.server 80 --directory /run/metadata
other=$(systemctl show -p MainPID metadata | cut -d= -f2)
for try in $(seq 50); do
    [ "$(readlink "/proc/$other/ns/net")" = "$(readlink /proc/self/ns/net)" ] || break
    sleep 0.2
done
on_other() { nsenter -t "$other" -n "$@"; }
ip link add metadata0 type veth peer name metadata1 netns "$other"
ip addr add 100.100.100.201/30 dev metadata0
ip link set metadata0 up
on_other ip addr add 100.100.100.202/30 dev metadata1
on_other ip link set metadata1 up
for address in 100.100.100.200 169.254.169.254; do
    on_other ip addr add "$address/32" dev lo
    ip route add "$address/32" via 100.100.100.202 onlink dev metadata0
done
"""
