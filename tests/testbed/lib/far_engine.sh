# A second, newer engine beside the first, reached as one on another machine: tcp with TLS, and ssh.
# shellcheck shell=bash

FAR=$RUN/far
FAR_PID_FILE=$FAR/dockerd.pid
FAR_SSHD_PID_FILE=$FAR/sshd.pid
# The newer docker and dockerd, and an ssh that knows the key and the host: first on the PATH of those that use it.
FAR_BIN=$CACHE/far-bin
FAR_BRIDGE=rollout-far0
# Apart from what the first engine gives its networks, with which it shares the machine's own.
FAR_NETWORKS=10.201.0.0/16
FAR_BRIDGE_ADDRESS=10.201.255.1/24
# As Engine 29 refuses older API versions.
FAR_MIN_API=1.44
FAR_IMAGES='traefik:v3.0 traefik:v3.7 rollout-demo:v1 rollout-demo:v2'

far_docker() { PATH=$FAR_BIN:$PATH DOCKER_HOST=unix://$FAR/docker.sock docker "$@"; }

# Nothing runs under a pid that another program has since taken.
far_runs() { [ "$(cat "/proc/$(cat "$1" 2>/dev/null || echo none)/comm" 2>/dev/null)" = "$2" ]; }

far_up() {
    [ "$(id -u)" = 0 ] && is_debian || die "the second engine needs root rights on a Debian machine"
    far_programs
    mkdir -p "$FAR"
    if ! far_runs "$FAR_PID_FILE" dockerd; then
        far_certificates
        far_network
        far_start_engine
    fi
    far_runs "$FAR_SSHD_PID_FILE" sshd || far_start_sshd
    far_images
}

far_programs() {
    local package missing=()
    if [ ! -x "$FAR_BIN/dockerd" ]; then
        rm -rf "$FAR_BIN.part" && mkdir -p "$FAR_BIN.part"
        for package in docker.io containerd docker-cli; do
            fetch_debian sid $package "$CACHE/far.unpacked"
            find "$CACHE/far.unpacked" -type f \( -path '*/bin/*' -o -path '*/sbin/*' \) -exec cp {} "$FAR_BIN.part" \;
            rm -rf "$CACHE/far.unpacked"
        done
        [ -x "$FAR_BIN.part/dockerd" ] && [ -x "$FAR_BIN.part/containerd" ] && [ -x "$FAR_BIN.part/docker" ] \
            || die "no dockerd, containerd or docker in the packages of sid"
        rm -rf "$FAR_BIN" && mv "$FAR_BIN.part" "$FAR_BIN"
        forget_debian_lists
    fi
    printf '#!/bin/sh\n# Knows the key and the host of the testbed; all else is as ever.\nexec /usr/bin/ssh -F %q "$@"\n' \
        "$FAR/ssh_config" >"$FAR_BIN/ssh" && chmod +x "$FAR_BIN/ssh"
    command -v runc >/dev/null || [ -x /usr/sbin/runc ] || missing+=(runc)
    command -v ip >/dev/null || [ -x /sbin/ip ] || missing+=(iproute2)
    command -v iptables >/dev/null || [ -x /usr/sbin/iptables ] || missing+=(iptables)
    command -v openssl >/dev/null || missing+=(openssl)
    [ -x /usr/bin/ssh ] || missing+=(openssh-client)
    [ -x /usr/sbin/sshd ] || missing+=(openssh-server)
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    apt_update
    without_service_starts apt-get install -y -q --no-install-recommends "${missing[@]}" >"$RUN/install.log" 2>&1 \
        || { tail -20 "$RUN/install.log" >&2; die "${missing[*]} did not install; see $RUN/install.log"; }
}

# An authority, the engine's certificate for 127.0.0.1, and a client's; new with every engine that starts.
far_certificates() {
    local of
    rm -rf "$FAR/certs" && mkdir -p -m 700 "$FAR/certs/client" "$FAR/certs/server"
    (
        cd "$FAR/certs"
        openssl ecparam -genkey -name prime256v1 -noout -out ca-key.pem
        openssl req -x509 -new -key ca-key.pem -days 30 -subj /CN=testbed -out ca.pem
        printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n' >server.ext
        printf 'extendedKeyUsage=clientAuth\n' >client.ext
        for of in server client; do
            openssl ecparam -genkey -name prime256v1 -noout -out $of/key.pem
            openssl req -new -key $of/key.pem -subj /CN=$of -out $of.csr
            openssl x509 -req -in $of.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 30 -extfile $of.ext -out $of/cert.pem
            cp ca.pem $of/ca.pem
        done
    ) >"$FAR/certificates.log" 2>&1 || { cat "$FAR/certificates.log" >&2; die "no certificates"; }
}

# The engine leaves iptables to the first one, whose rules it would take for its own; its containers only meet each other.
far_network() {
    export PATH=$PATH:/usr/sbin:/sbin
    ip link show $FAR_BRIDGE >/dev/null 2>&1 || ip link add $FAR_BRIDGE type bridge
    ip addr replace $FAR_BRIDGE_ADDRESS dev $FAR_BRIDGE && ip link set $FAR_BRIDGE up || die "no bridge $FAR_BRIDGE"
    far_rule -C 2>/dev/null || far_rule -I || die "iptables does not take a rule"
}

far_rule() { iptables "$1" FORWARD -s $FAR_NETWORKS -d $FAR_NETWORKS -j ACCEPT; }

far_start_engine() {
    local port
    port=$(free_port 23760)
    say "starting the second dockerd (tcp port $port, data in $CACHE/far-engine, log in $FAR/dockerd.log)"
    remove_stale_pid "$FAR_PID_FILE" dockerd
    remove_stale_pid "$FAR/exec/containerd/containerd.pid" containerd
    # At a second start with what it remembers of its networks, dockerd removes the default bridge: the first engine's docker0.
    rm -rf "$CACHE/far-engine/network"
    mkdir -p "$CACHE/far-engine"
    DOCKER_MIN_API_VERSION=$FAR_MIN_API PATH=$FAR_BIN:$PATH:/usr/sbin:/sbin setsid "$FAR_BIN/dockerd" \
        -H "unix://$FAR/docker.sock" -H "tcp://127.0.0.1:$port" \
        --tlsverify --tlscacert "$FAR/certs/ca.pem" --tlscert "$FAR/certs/server/cert.pem" --tlskey "$FAR/certs/server/key.pem" \
        --data-root "$CACHE/far-engine" --exec-root "$FAR/exec" --pidfile "$FAR_PID_FILE" \
        --bridge $FAR_BRIDGE --default-address-pool base=$FAR_NETWORKS,size=24 --iptables=false --ip6tables=false \
        >"$FAR/dockerd.log" 2>&1 </dev/null 9>&- &
    local child=$!
    for _ in $(seq 300); do
        if far_docker version >/dev/null 2>&1; then
            echo "$port" >"$FAR/tcp-port"
            far_remove_everything_left
            say "second engine $(far_docker version --format '{{.Server.Version}}') started"
            return
        fi
        kill -0 $child 2>/dev/null || break
        sleep 0.2
    done
    tail -20 "$FAR/dockerd.log" >&2
    ! far_runs "$FAR_PID_FILE" dockerd || kill "$(cat "$FAR_PID_FILE")"
    die "the second dockerd did not come up; see $FAR/dockerd.log"
}

# The first port from this one on that is free.
free_port() {
    local port=$1
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    echo "$port"
}

far_start_sshd() {
    local port
    port=$(free_port 23790)
    say "starting sshd on port $port"
    rm -f "$FAR"/ssh-key* "$FAR"/host-key* "$FAR_SSHD_PID_FILE"
    ssh-keygen -q -t ed25519 -N '' -C testbed -f "$FAR/ssh-key" && ssh-keygen -q -t ed25519 -N '' -C testbed -f "$FAR/host-key" \
        || die "no ssh keys"
    mkdir -p -m 755 /run/sshd
    cat >"$FAR/sshd_config" <<TEXT
ListenAddress 127.0.0.1:$port
PidFile $FAR_SSHD_PID_FILE
HostKey $FAR/host-key
AuthorizedKeysFile $FAR/ssh-key.pub
StrictModes no
UsePAM no
AuthenticationMethods publickey
PermitRootLogin prohibit-password
SetEnv PATH=$FAR_BIN:/usr/local/bin:/usr/bin:/bin DOCKER_HOST=unix://$FAR/docker.sock
TEXT
    cat >"$FAR/ssh_config" <<TEXT
IdentityFile $FAR/ssh-key
IdentitiesOnly yes
IdentityAgent none
UserKnownHostsFile $FAR/known_hosts
GlobalKnownHostsFile /dev/null
TEXT
    echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$FAR/host-key.pub")" >"$FAR/known_hosts"
    /usr/sbin/sshd -f "$FAR/sshd_config" -E "$FAR/sshd.log" 9>&- </dev/null || { cat "$FAR/sshd.log" >&2; die "sshd did not start"; }
    echo "$port" >"$FAR/ssh-port"
}

# From the first engine, where an image is missing or another one by now.
far_images() {
    local name id stale=()
    for name in $FAR_IMAGES ${ROLLOUT_TESTBED_IMAGE:-rollout:latest}; do
        id=$(docker image inspect -f '{{.Id}}' "$name" 2>/dev/null) || { say "no image $name to take to the second engine"; continue; }
        [ "$(far_docker image inspect -f '{{.Id}}' "$name" 2>/dev/null)" = "$id" ] || stale+=("$name")
    done
    [ ${#stale[@]} -eq 0 ] && return
    say "taking ${stale[*]} to the second engine"
    docker save "${stale[@]}" | far_docker load -q >/dev/null || die "images could not be taken to the second engine"
    far_docker image prune -f >/dev/null
}

far_env() {
    far_runs "$FAR_PID_FILE" dockerd || return 0
    echo "export ROLLOUT_TESTBED_FAR_BIN=$(printf %q "$FAR_BIN")"
    echo "export ROLLOUT_TESTBED_FAR_TCP=tcp://127.0.0.1:$(cat "$FAR/tcp-port")"
    echo "export ROLLOUT_TESTBED_FAR_CERTS=$(printf %q "$FAR/certs/client")"
    echo "export ROLLOUT_TESTBED_FAR_SOCKET=$(printf %q "$FAR/docker.sock")"
    echo "export ROLLOUT_TESTBED_FAR_SSH=ssh://root@127.0.0.1:$(cat "$FAR/ssh-port")"
}

far_down() {
    if far_runs "$FAR_SSHD_PID_FILE" sshd; then kill "$(cat "$FAR_SSHD_PID_FILE")"; fi
    if far_runs "$FAR_PID_FILE" dockerd; then far_stop_engine; fi
    [ -d "$FAR" ] || return 0
    export PATH=$PATH:/usr/sbin:/sbin
    far_rule -D 2>/dev/null || true
    ip link delete $FAR_BRIDGE 2>/dev/null || true
    # Namespaces of containers that it did not get to remove.
    umount "$FAR"/exec/netns/* 2>/dev/null || true
    rm -rf "$FAR"
}

far_stop_engine() {
    local pid
    pid=$(cat "$FAR_PID_FILE")
    say "stopping the second dockerd ($pid)"
    far_remove_everything_left
    kill "$pid"
    for _ in $(seq 150); do
        [ -d "/proc/$pid" ] || return 0
        sleep 0.2
    done
    die "the second dockerd ($pid) has not ended within 30 s; see $FAR/dockerd.log"
}

far_remove_everything_left() { (PATH=$FAR_BIN:$PATH DOCKER_HOST=unix://$FAR/docker.sock; export PATH DOCKER_HOST; remove_everything_left); }

far_status() {
    if far_runs "$FAR_PID_FILE" dockerd; then
        echo "second engine: $(far_docker version --format '{{.Server.Version}}'), tcp port $(cat "$FAR/tcp-port"), ssh port $(cat "$FAR/ssh-port")"
    else
        echo "second engine: none; '$0 far' starts it"
    fi
}
