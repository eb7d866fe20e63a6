"""A program in a network namespace of its own: it sets itself up, and checks after SIGUSR1 that all is as it was.

Arguments: output, what is to be in the namespace.
"""
import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

out = open(sys.argv[1], "a", buffering=1)
ways = sys.argv[2:]


def xdp(device):
    """Has a program let all packets of a device pass."""
    passes = struct.pack("<BBhiBBhi", 0xb7, 0, 0, 2, 0x95, 0, 0, 0)
    code = ctypes.create_string_buffer(passes)
    licence = ctypes.create_string_buffer(b"GPL")
    attr = ctypes.create_string_buffer(
        struct.pack("<IIQQIIQII", 6, 2, ctypes.addressof(code), ctypes.addressof(licence), 0, 0, 0, 0, 0), 128)
    program = ctypes.CDLL(None, use_errno=True).syscall(321, 5, attr, 128)
    if program < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    # IFLA_XDP with IFLA_XDP_FD and IFLA_XDP_FLAGS: XDP_FLAGS_SKB_MODE.
    nest = struct.pack("<HHHHiHHI", 20, 43 | 0x8000, 8, 1, program, 8, 3, 2)
    body = struct.pack("<BxHiII", 0, 0, socket.if_nametoindex(device), 0, 0) + nest
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as route:
        route.send(struct.pack("<IHHII", 16 + len(body), 19, 5, 1, 0) + body)
        error = struct.unpack_from("<i", route.recv(4096), 16)[0]
    os.close(program)
    if error:
        raise OSError(-error, "XDP")


RULES = """
table inet filter {
    counter hits { packets 7 bytes 700 }
    quota some { over 5000 bytes used 100 bytes }
    set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.0/28, 198.51.100.1-198.51.100.9, 203.0.113.7 } }
    set seen { type ipv4_addr . inet_service; flags dynamic,timeout; timeout 1h; size 100; }
    map ports { type inet_service : verdict; elements = { 9 : drop, 7 : jump other } }
    chain other { counter packets 3 bytes 300 return; }
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established,related accept
        ip saddr @blocked counter drop comment "of the list"
        tcp dport { 22, 80, 8000-8080 } tcp flags syn add @seen { ip saddr . tcp dport } accept
        tcp dport vmap @ports
        udp dport 53 limit rate 10/second burst 5 packets counter name hits accept
        tcp dport 1 jump { ip saddr 192.0.2.200 drop; counter packets 1 bytes 60 accept; }
        quota name some reject with icmp port-unreachable
    }
}
table ip6 plain { flags dormant; chain a { ip6 nexthdr icmpv6 log prefix "v6 " accept; }; }
table arp third { chain in { type filter hook input priority 5; policy accept; arp operation request counter accept; }; }
"""


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def write(name, value):
    with open("/proc/sys/net/" + name, "w") as file:
        file.write(value)


def settings():
    found = {}
    for folder, _, names in os.walk("/proc/sys/net"):
        for name in names:
            path = os.path.join(folder, name)
            if os.stat(path).st_mode & 0o600 != 0o600:
                continue
            try:
                with open(path, "rb") as file:
                    found[path] = file.read()
            except OSError:
                pass
    return found


def told(*words):
    """What ip tells, without what counts and what passes."""
    text = subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
    # The number of another namespace is the kernel's to choose, and timers run.
    passing = r"@if\d+|link-netnsid \d+|\w+_timer +[\d.]+|topology_change_detected \d|fdb_n_learned \d+|tso_max_size \d+"
    return sorted(re.sub(passing, "", line.strip()) for line in text.splitlines())


def forwards():
    """Entries of bridges that somebody has made."""
    text = subprocess.run(["bridge", "fdb"], check=True, capture_output=True, text=True).stdout
    kept = [line.strip() for line in text.splitlines() if "static" in line or "dst" in line]
    return sorted(kept)


def rules():
    """Tables of nftables, but for those of who keeps packets away for a while."""
    if "rules" not in ways:
        return []
    text = subprocess.run(["nft", "-a", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
    # Handles are the kernel's to choose.
    return re.sub(r" # handle \d+", "", text).splitlines()


def seen():
    both = [told(family, *words) for family in ("-4", "-6") for words in (
        ("address",), ("route", "show", "table", "all"), ("rule",), ("neighbour", "show", "nud", "permanent"),
        ("neighbour", "show", "proxy"))]
    return both, told("-d", "link"), forwards(), rules(), settings()


def difference(before, after):
    if isinstance(before, dict):
        keys = before.keys() | after.keys()
        return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]
    return ([line for line in before if line not in after], [line for line in after if line not in before])


if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:
    raise OSError(ctypes.get_errno(), "unshare")
for way in ways:
    if way == "lo":
        ip("link", "set", "lo", "up")
        ip("address", "add", "10.11.12.13/32", "dev", "lo")
        ip("address", "add", "10.11.0.1/24", "dev", "lo", "label", "lo:x", "broadcast", "10.11.0.200")
        ip("address", "add", "fd00:11::1/128", "dev", "lo")
        ip("address", "del", "::1/128", "dev", "lo")
        ip("link", "set", "lo", "mtu", "5000")
        ip("route", "add", "10.44.0.0/16", "via", "10.11.0.7", "metric", "17", "mtu", "1400")
        ip("route", "add", "blackhole", "10.45.0.0/16", "table", "77")
        ip("route", "add", "default", "via", "10.44.0.1", "dev", "lo", "onlink", "table", "78")
        ip("route", "add", "unreachable", "fd00:45::/32")
        ip("-6", "route", "add", "fd00:46::/32", "dev", "lo", "table", "79")
        ip("rule", "add", "from", "1.2.3.4", "table", "77", "priority", "100")
        ip("-6", "rule", "add", "fwmark", "0x5", "table", "79")
        ip("rule", "del", "table", "default")
        ip("neighbour", "add", "proxy", "10.11.0.10", "dev", "lo")
        write("ipv4/ip_forward", "1")
        write("ipv4/conf/lo/forwarding", "0")
        write("ipv4/ping_group_range", "5 77")
        write("ipv4/ip_local_port_range", "20000 20999")
        write("ipv4/tcp_keepalive_time", "321")
        write("ipv6/conf/lo/hop_limit", "33")
        write("unix/max_dgram_qlen", "77")
        write("core/somaxconn", "99")
    if way == "rules":
        subprocess.run(["nft", "-f", "-"], check=True, input=RULES, text=True)
    if way == "iptables":
        subprocess.run(["iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-s", "10.5.0.0/16", "-j", "MASQUERADE"], check=True)
        subprocess.run(["iptables-nft", "-A", "INPUT", "-p", "tcp", "-m", "multiport", "--dports", "5000,5001",
                        "-m", "comment", "--comment", "for later", "-j", "DROP"], check=True)
    if way == "tracked":
        subprocess.run(["nft", "add table ip t; add chain ip t c { type filter hook input priority 0; };"
                        "add rule ip t c ct state new accept"], check=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"tracked", ("10.11.12.13", 9))
    if way == "queue":
        subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1gbit", "burst", "1mb",
                        "latency", "1ms"], check=True)

    if way == "pair":
        ip("link", "add", "one", "index", "40", "address", "02:00:00:00:00:01", "type", "veth",
           "peer", "name", "other", "index", "30", "address", "02:00:00:00:00:02")
        ip("link", "set", "one", "mtu", "1400", "alias", "the first", "group", "7", "multicast", "off", "up")
        ip("link", "property", "add", "dev", "other", "altname", "a-name-of-more-than-sixteen")
        ip("link", "set", "other", "txqueuelen", "55", "up")
        ip("address", "add", "10.12.0.1/24", "dev", "one")
        ip("address", "add", "fd00:12::1/64", "dev", "one", "nodad")
        ip("neighbour", "add", "10.12.0.9", "lladdr", "02:00:00:00:00:09", "dev", "one", "nud", "permanent")
        ip("route", "add", "10.46.0.0/16", "via", "10.12.0.9", "dev", "one")
        write("ipv4/conf/one/rp_filter", "2")
        write("ipv6/conf/other/disable_ipv6", "1")
    if way == "xdp":
        xdp("lo")
    if way == "kinds":
        ip("link", "add", "br7", "index", "60", "numtxqueues", "3", "address", "02:00:00:00:07:07", "type", "bridge",
           "forward_delay", "400", "ageing_time", "12300", "priority", "4096", "mcast_snooping", "0", "group_fwd_mask", "8",
           "nf_call_iptables", "1")
        ip("link", "add", "p1", "index", "50", "type", "veth", "peer", "name", "p2", "index", "51")
        ip("link", "set", "p1", "master", "br7", "up")
        ip("link", "set", "p1", "type", "bridge_slave", "cost", "77", "hairpin", "on", "learning", "off", "guard", "on")
        ip("link", "set", "p2", "up")
        ip("link", "set", "br7", "up")
        ip("address", "add", "10.14.0.1/24", "dev", "br7")
        subprocess.run(["bridge", "fdb", "add", "02:00:00:00:14:14", "dev", "p1", "master", "static"], check=True)
        ip("link", "add", "link", "p2", "name", "mv", "index", "70", "type", "macvlan", "mode", "source",
           "macaddr", "add", "02:00:00:00:15:15")
        ip("link", "set", "mv", "up")
        ip("address", "add", "10.15.0.1/24", "dev", "mv")
        ip("link", "add", "vx", "index", "45", "type", "vxlan", "id", "42", "dstport", "4789", "local", "10.14.0.1",
           "remote", "10.14.0.9", "dev", "br7", "ttl", "7", "nolearning")
        subprocess.run(["bridge", "fdb", "append", "02:00:00:00:16:16", "dev", "vx", "dst", "10.14.0.8"], check=True)
        ip("link", "add", "if", "index", "44", "type", "ifb")
        ip("link", "set", "if", "gso_max_segs", "33", "up")
    if way == "outward":
        # Whoever is outside gives it a link.
        out.write("WAITS\n")
        while subprocess.run(["ip", "link", "show", "eth0"], capture_output=True).returncode != 0:
            time.sleep(0.02)
        ip("link", "set", "eth0", "up")
        ip("address", "add", "10.99.0.2/24", "dev", "eth0")
        ip("route", "add", "default", "via", "10.99.0.1")
        ip("neighbour", "add", "10.99.0.77", "lladdr", "02:00:00:00:00:77", "dev", "eth0", "nud", "permanent")

# Sockets: a listening one, a connection, abstract names, and an own descriptor of the namespace.
listener = socket.create_server(("10.11.12.13", 777))
client = socket.create_connection(("10.11.12.13", 777))
server, _ = listener.accept()
client.sendall(b"waits")
abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
abstract.bind("\0the same in each namespace")
bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
own = os.open("/proc/self/ns/net", os.O_RDONLY)


def serve(connection):
    with connection:
        while data := connection.recv(1 << 16):
            connection.sendall(data.upper())


def accept(all_of_them):
    while True:
        threading.Thread(target=serve, args=(all_of_them.accept()[0],), daemon=True).start()


if "outward" in ways:
    threading.Thread(target=accept, args=(socket.create_server(("10.99.0.2", 778)),), daemon=True).start()


def settled():
    """Addresses of IPv6 that the kernel gives by itself are nobody else's once a while has passed."""
    while "tentative" in subprocess.run(["ip", "address"], check=True, capture_output=True, text=True).stdout:
        time.sleep(0.05)


settled()
before = seen()


def fail(reason):
    out.write(f"FAIL: {reason}\n")
    sys.exit(1)


def check():
    settled()
    after = seen()
    for was, now in zip([*before[0], *before[1:]], [*after[0], *after[1:]]):
        if was != now:
            fail(f"not as before: {difference(was, now)}")
    if os.fstat(own).st_ino != os.stat("/proc/self/ns/net").st_ino:
        fail("its descriptor is of another namespace")
    if server.recv(100) != b"waits":
        fail("what waited has gone")
    server.sendall(b"answer")
    if client.recv(100) != b"answer":
        fail("no answer")
    other = socket.create_connection(("10.11.12.13", 777), timeout=10)
    other.close()
    if abstract.getsockname() != b"\0the same in each namespace":
        fail("another name")
    if bound.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") != b"lo":
        fail("not bound to its device")


asked = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: asked.set())
out.write("READY\n")
while not asked.is_set():
    signal.pause()
check()
out.write("PASS\n")
