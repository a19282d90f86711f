#!/bin/sh
# Transparent capture: sends TCP connections through weir-proxy, though nobody was configured to use it.
#
#   weir-proxy --service shop --app 127.0.0.1:8080 --mark 1337 \
#     --capture '[::]:15001' --capture-inbound '[::]:15006' &
#   APP_PORTS=8080 ./capture.sh up      # as root: of this machine, or of the network namespace that it runs in
#   ./capture.sh down
#
# | setting         | default | what it is                                                                          |
# |-----------------|---------|-------------------------------------------------------------------------------------|
# | MARK            | 1337    | the proxy's --mark, by which its own connections are let through                    |
# | CAPTURE         | 15001   | the port of --capture                                                               |
# | CAPTURE_INBOUND | 15006   | the port of --capture-inbound                                                       |
# | APP_PORTS       |         | ports such as `8080, 9000` that others reach through the proxy; none: no redirect   |
# | EXCEPT_PORTS    | 53      | ports of other machines that are left alone                                         |
#
# Listen on [::]. Outgoing connections are redirected to 127.0.0.1 or ::1, incoming ones to the address of the
# interface that they come by, and [::] takes all of them. A connection that somebody makes to these ports himself is
# refused.
#
# Needs nftables (nft) with Linux 5.2 or newer; the proxy needs CAP_NET_ADMIN to mark its connections.
set -eu

: "${MARK:=1337}" "${CAPTURE:=15001}" "${CAPTURE_INBOUND:=15006}" "${APP_PORTS:=}" "${EXCEPT_PORTS:=53}"

outgoing() {
  cat <<RULES
  chain outgoing {
    # -100 is where destinations are changed.
    type nat hook output priority -100; policy accept;

    # First of all: the proxy's own connections, which otherwise would come back to it for ever.
    meta mark $MARK return

    # What stays on this machine: applications beside each other, the proxy's admin page, the application itself.
    oifname "lo" return

    # DNS over TCP: the C library asks for the names of endpoints, and knows no marks.
    tcp dport { $EXCEPT_PORTS } return

    meta l4proto tcp counter redirect to :$CAPTURE
  }
RULES
}

# Each port keeps its meaning: that of --app leads to --app, another one to whatever listens there on this machine's
# own address. For a port that nobody listens on and that should lead to --app, redirect to the port of --inbound.
incoming() {
  [ -n "$APP_PORTS" ] || return 0
  cat <<RULES
  chain incoming {
    type nat hook prerouting priority -100; policy accept;
    iifname "lo" return
    tcp dport { $APP_PORTS } counter redirect to :$CAPTURE_INBOUND
  }
RULES
}

case "${1:-}" in
  up)
    # One transaction: the table of before goes as the new one comes, and no connection gets by in between. A delete
    # needs something to delete.
    nft -f - <<RULES
table inet weir
delete table inet weir
table inet weir {
$(outgoing)
$(incoming)
}
RULES
    ;;
  down)
    nft -f - <<RULES
table inet weir
delete table inet weir
RULES
    ;;
  *)
    echo "usage: $0 up|down" >&2
    exit 2
    ;;
esac
