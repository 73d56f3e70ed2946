#!/bin/sh
# Builds kedge from this checkout, installs and starts it, and deploys a demonstration.
# Run as root. Running it again changes nothing that is already as it should be.
#
#   ./install.sh                      a server with a node on this machine
#
#   INSTALL_KEDGE_EXEC="--flag ..."   flags for `kedge server`
#   INSTALL_KEDGE_BIN_DIR=DIR         where the executable goes (/usr/local/bin)
#   INSTALL_KEDGE_BIN=FILE            install this executable instead of building one
#   INSTALL_KEDGE_SKIP_DEMO=1         deploy no demonstration
#   INSTALL_KEDGE_SKIP_START=1        install only
#   INSTALL_KEDGE_LOG=FILE            the log where there is neither systemd nor OpenRC (/var/log/kedge.log)
set -euf

BIN_DIR=${INSTALL_KEDGE_BIN_DIR:-/usr/local/bin}
EXEC=${INSTALL_KEDGE_EXEC:-}
HERE=$(cd "$(dirname "$0")" && pwd)
MIN_KERNEL=5.12

say() { printf '%s\n' "install: $*"; }
die() { printf '%s\n' "install: $*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The value of a flag in INSTALL_KEDGE_EXEC, or a default.
flag() {
    name=$1 value=$2
    # shellcheck disable=SC2086  # the flags are words on purpose
    set -- $EXEC
    while [ $# -gt 0 ]; do
        case $1 in
            --"$name"=*) value=${1#*=} ;;
            --"$name") value=${2:-} ;;
        esac
        shift
    done
    printf '%s' "$value"
}

check_machine() {
    [ "$(id -u)" = 0 ] || die "this needs root: run it with sudo"
    [ "$(uname -s)" = Linux ] || die "kedge runs on Linux, not on $(uname -s)"
    case $(uname -m) in
        x86_64 | aarch64) ;;
        *) die "no build for the processor $(uname -m): kedge runs on x86_64 and aarch64" ;;
    esac
    kernel=$(uname -r)
    oldest=$(printf '%s\n%s\n' "$MIN_KERNEL" "${kernel%%-*}" | sort -V | head -n 1)
    [ "$oldest" = "$MIN_KERNEL" ] || die "the kernel $kernel is too old: kedge needs $MIN_KERNEL or newer"
    for file in /proc/sys/net/ipv4/ip_forward /sys/fs/cgroup; do
        [ -e "$file" ] || die "$file is missing: this kernel or container lacks what a node needs"
    done
}

# Ports that must be free, unless it is kedge that has them.
check_port() {
    hex=$(printf '%04X' "$1")
    if cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v p=":$hex" \
        '$4 == "0A" && substr($2, length($2) - 4) == p { found = 1 } END { exit !found }'; then
        die "port $1 is in use by another program; stop it or choose another with INSTALL_KEDGE_EXEC=\"$2 PORT\""
    fi
}

build() {
    if [ -n "${INSTALL_KEDGE_BIN:-}" ]; then
        [ -x "$INSTALL_KEDGE_BIN" ] || die "INSTALL_KEDGE_BIN=$INSTALL_KEDGE_BIN is not an executable file"
        BUILT=$INSTALL_KEDGE_BIN
        return
    fi
    for home in "${CARGO_HOME:-}" "$HOME/.cargo" "$(eval echo "~${SUDO_USER:-root}")/.cargo"; do
        if ! have cargo && [ -n "$home" ] && [ -x "$home/bin/cargo" ]; then
            PATH=$home/bin:$PATH
            export RUSTUP_HOME="${RUSTUP_HOME:-${home%/.cargo}/.rustup}"
        fi
    done
    have cargo || die "cargo is missing: install the Rust toolchain (https://rustup.rs) and run this again"
    target=$(uname -m)-unknown-linux-musl
    if ! have cc || ! have musl-gcc; then
        have apt-get || die "a C compiler and musl-gcc are missing: install them (gcc, musl-tools) and run this again"
        say "installing the C compiler and musl"
        apt-get update -qq || die "apt-get update failed: is the machine online?"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev musl-tools >/dev/null
    fi
    if have rustup && ! rustup target list --installed | grep -qx "$target"; then
        rustup target add "$target"
    fi
    say "building (some minutes the first time)"
    (cd "$HERE" && cargo build --release --locked --target "$target" --bin kedge)
    BUILT=${CARGO_TARGET_DIR:-$HERE/target}/$target/release/kedge
}

# Copies only what differs; remembers whether anything did.
CHANGED=0
put() {
    if cmp -s "$1" "$2"; then return; fi
    mkdir -p "$(dirname "$2")"
    cp "$1" "$2.new"
    chmod "$3" "$2.new"
    mv "$2.new" "$2"
    CHANGED=1
    say "wrote $2"
}

# The flags as the word list of a unit, in which %, $, quotes and backslashes mean something to systemd.
systemd_words() { printf '%s' "$EXEC" | sed "s/[%\$]/&&/g; s/[\\\\'\"]/\\\\&/g"; }

# The flags as words of a shell that are evaluated once more: what is in them, such as <, means nothing to it.
shell_words() {
    # shellcheck disable=SC2086  # the flags are words on purpose
    for word in $EXEC; do
        printf " '%s'" "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")"
    done | sed 's/[\\"$`]/\\&/g'
}

systemd_unit() {
    cat <<UNIT
[Unit]
Description=kedge: Kubernetes for small machines
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
EnvironmentFile=-/etc/default/kedge
ExecStart=$BIN_DIR/kedge server $(systemd_words)
# Containers outlive the server: only its own process is stopped.
KillMode=process
Delegate=yes
Restart=always
RestartSec=2s
TimeoutStartSec=0
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
UNIT
}

openrc_script() {
    cat <<SCRIPT
#!/sbin/openrc-run
description="kedge: Kubernetes for small machines"
supervisor=supervise-daemon
command="$BIN_DIR/kedge"
command_args="server$(shell_words)"
output_log=/var/log/kedge.log
error_log=/var/log/kedge.log
respawn_delay=2
respawn_max=0
depend() {
    after network-online
    want cgroups
}
SCRIPT
}

running() { [ -e "$DATA_DIR/server/cred/admin.kubeconfig" ] && "$BIN_DIR/kedge" status --data-dir "$DATA_DIR" >/dev/null 2>&1; }

start() {
    temporary=$(mktemp)
    trap 'rm -f "$temporary"' EXIT
    if [ -d /run/systemd/system ]; then
        systemd_unit >"$temporary"
        put "$temporary" /etc/systemd/system/kedge.service 0644
        [ $CHANGED = 0 ] && running && return
        systemctl daemon-reload
        systemctl enable --quiet kedge
        systemctl restart kedge --no-block
    elif [ -x /sbin/openrc-run ]; then
        openrc_script >"$temporary"
        put "$temporary" /etc/init.d/kedge 0755
        [ $CHANGED = 0 ] && running && return
        rc-update add kedge default >/dev/null
        rc-service kedge restart
    else
        [ $CHANGED = 0 ] && running && return
        stop_supervised
        log=${INSTALL_KEDGE_LOG:-/var/log/kedge.log}
        say "no systemd or OpenRC here: starting a supervised background process; its log is $log"
        # shellcheck disable=SC2086  # the flags are words on purpose
        setsid "$BIN_DIR/kedge" supervise --data-dir "$DATA_DIR" -- server $EXEC >>"$log" 2>&1 </dev/null &
    fi
}

# Ends the supervised server of an earlier run, not its containers.
stop_supervised() {
    pid=$("$BIN_DIR/kedge" supervise --data-dir "$DATA_DIR" --print-pid 2>/dev/null) || return 0
    kill "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}

deploy_demo() {
    [ -z "${INSTALL_KEDGE_SKIP_DEMO:-}" ] || return 0
    put "$HERE/manifests/demo.yaml" "$DATA_DIR/server/manifests/demo.yaml" 0600
}

finish() {
    demo=
    [ -n "${INSTALL_KEDGE_SKIP_DEMO:-}" ] || demo="--deployment default/demo"
    # shellcheck disable=SC2086  # empty means no argument
    if ! "$BIN_DIR/kedge" status --data-dir "$DATA_DIR" --wait 180 $demo; then
        [ -d /run/systemd/system ] && hint="journalctl -u kedge" || hint="${INSTALL_KEDGE_LOG:-/var/log/kedge.log}"
        die "kedge did not become ready; its log says why: $hint"
    fi
    kubeconfig=$(flag write-kubeconfig "$(flag o "$KUBECONFIG_DEFAULT")")
    cat <<NEXT

kedge is running. Next:
  export KUBECONFIG=$kubeconfig
  kubectl get pods -A            (any kubectl from 1.27 on)
  curl http://$("$BIN_DIR/kedge" status --data-dir "$DATA_DIR" | sed -n 's|^service  *default/demo http://||p')
  kedge images import FILE       images from a file, without a registry
  kedge killall                  stop everything
  kedge uninstall                remove kedge
NEXT
}

check_machine
DATA_DIR=$(flag data-dir "${KEDGE_DATA_DIR:-/var/lib/kedge}")
case $DATA_DIR in
    /var/lib/kedge) KUBECONFIG_DEFAULT=/etc/kedge/kedge.yaml ;;
    *) KUBECONFIG_DEFAULT=$DATA_DIR/server/kubeconfig.yaml ;;
esac
build
mkdir -p "$BIN_DIR"
put "$BUILT" "$BIN_DIR/kedge" 0755
[ -z "${INSTALL_KEDGE_SKIP_START:-}" ] || { say "installed $BIN_DIR/kedge"; exit 0; }
if ! running; then
    check_port "$(flag https-listen-port 6443)" --https-listen-port
    check_port "$(flag node-api-port 10250)" --node-api-port
fi
deploy_demo
start
finish
