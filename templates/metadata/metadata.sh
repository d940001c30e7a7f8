#!/bin/sh
# Written by wsgi-ecs. keep: no user but root reaches the metadata of the cloud. open: every user does.

# A kernel before 4.10, as CentOS 7's, knows no users in a rule of routing, and would apply the rule to all of them.
case $(uname -r) in
[0-3].* | 4.[0-9].*) has_users= ;;
*) has_users=yes ;;
esac

by_rule() {
    while ip rule del priority 50 to "$2" 2>/dev/null; do :; done
    [ "$1" = keep ] || return 0
    # systemd-networkd removes a rule of unknown origin, but none of the kernel's. An old ip does not know origins.
    set -- priority 50 to "$2" uidrange 1-65535
    ip rule add "$@" protocol kernel prohibit 2>/dev/null || ip rule add "$@" prohibit
}

by_firewall() {
    verb=$1
    set -- OUTPUT -d "$2" -m owner ! --uid-owner 0 -j REJECT
    while iptables -w -D "$@" 2>/dev/null; do :; done
    [ "$verb" = open ] || iptables -w -I "$@"
}

failed=0
for address in 100.100.100.200 169.254.169.254; do
    if [ "$has_users" ]; then by_rule "$1" "$address"; else by_firewall "$1" "$address"; fi || failed=1
done
exit $failed
