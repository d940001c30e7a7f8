#!/bin/sh
# Written by wsgi-ecs. keep: no user but root reaches the metadata of the cloud. open: every user does.
# Prints each address to which `keep` has closed the way.

# A kernel before 4.10, as CentOS 7's, knows no users in a rule of routing, and would apply the rule to all of them.
case $(uname -r) in
[0-3].* | 4.[0-9].*) has_users= ;;
*) has_users=yes ;;
esac

# A rule that is there already stays, so that the way is open at no moment.
by_rule() {
    if [ "$1" = open ]; then
        while ip rule del priority 50 to "$2" 2>/dev/null; do :; done
    elif ! ip rule list | grep -q "^50:.* to $2 .*prohibit"; then
        echo "$2"
        address=$2
        # A container may have no user above 65535: the kernel refuses a range with others there.
        for users in 1-4294967294 1-65535; do
            set -- priority 50 to "$address" uidrange $users
            # systemd-networkd removes a rule of unknown origin, but none of the kernel's. An old ip knows no origins.
            if ip rule add "$@" protocol kernel prohibit 2>/dev/null || ip rule add "$@" prohibit 2>/dev/null; then
                return
            fi
        done
        ip rule add "$@" prohibit
    fi
}

by_firewall() {
    verb=$1 address=$2
    set -- OUTPUT -d "$address" -m owner ! --uid-owner 0 -j REJECT
    if [ "$verb" = open ]; then
        while iptables -w -D "$@" 2>/dev/null; do :; done
    elif ! iptables -w -C "$@" 2>/dev/null; then
        echo "$address"
        iptables -w -I "$@"
    fi
}

failed=0
for address in 100.100.100.200 169.254.169.254; do
    if [ "$has_users" ]; then by_rule "$1" "$address"; else by_firewall "$1" "$address"; fi || failed=1
done
exit $failed
