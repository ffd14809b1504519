# Shared by up, down and node. The caller sets $work and $here.

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

# start NAME COMMAND...: in the background, its output in log/NAME.log, its identity in run/NAME.pid.
# A process is known by its pid and its start time, so that a pid used again by another is never taken for ours.
start() {
    local name=$1
    shift
    setsid "$@" >"$work/log/$name.log" 2>&1 </dev/null 9>&- &
    echo "$! $(start_time $!)" >"$work/run/$name.pid"
    disown
}

# Nothing for one that has ended, even while it waits to be reaped.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

# pid_of NAME: prints the pid if that very process is alive.
pid_of() {
    local pid time
    read -r pid time 2>/dev/null <"$work/run/$1.pid" || return 1
    [ "$(start_time "$pid")" = "$time" ] && [ -n "$time" ] && echo "$pid"
}

# stop NAME: ends it, waits until it is gone.
stop() {
    local pid i
    if pid=$(pid_of "$1"); then
        kill -KILL "$pid" 2>/dev/null || true
        for i in $(seq 100); do pid_of "$1" >/dev/null || break; sleep 0.05; done
    fi
    rm -f "$work/run/$1.pid"
}

# wait_for SECONDS NAME COMMAND...: until the command succeeds; fails early when the process NAME is gone.
wait_for() {
    local until=$((SECONDS + $1)) name=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        pid_of "$name" >/dev/null || { say "$name ended:"; tail -n 5 "$work/log/$name.log" >&2; return 1; }
        [ $SECONDS -lt $until ] || { say "$name: not ready in time:"; "$@" >&2 || true; tail -n 5 "$work/log/$name.log" >&2; return 1; }
        sleep 0.1
    done
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# --- certificates ------------------------------------------------------------------------------------------------

# authority NAME: a self-signed CA.
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$1" \
        -keyout "$work/pki/$1.key" -out "$work/pki/$1.crt" 2>/dev/null
}

# certificate NAME CA SUBJECT [SAN]: for clients, and with a SAN for servers too.
certificate() {
    local usage=clientAuth san=
    if [ -n "${4-}" ]; then usage=serverAuth,clientAuth; san="subjectAltName=$4"; fi
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$3" \
        -keyout "$work/pki/$1.key" -out "$work/pki/$1.csr" 2>/dev/null
    openssl x509 -req -in "$work/pki/$1.csr" -CA "$work/pki/$2.crt" -CAkey "$work/pki/$2.key" -days 365 \
        -set_serial "0x$(openssl rand -hex 8)" -out "$work/pki/$1.crt" \
        -extfile <(printf 'extendedKeyUsage=%s\nkeyUsage=digitalSignature\n%s\n' "$usage" "$san") 2>/dev/null
    rm "$work/pki/$1.csr"
}

# kubeconfig NAME SERVER [FILE]: a kubeconfig that carries the certificate NAME.
kubeconfig() {
    cat >"${3:-$work/pki/$1.kubeconfig}" <<EOF
apiVersion: v1
kind: Config
current-context: testbed
clusters:
- name: testbed
  cluster: {server: "$2", certificate-authority-data: $(base64 -w0 "$work/pki/ca.crt")}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$work/pki/$1.crt"), client-key-data: $(base64 -w0 "$work/pki/$1.key")}
contexts:
- name: testbed
  context: {cluster: testbed, user: $1}
EOF
}

# make_pki NODE-NAME ADDRESSES(comma separated SAN): all certificates of one cluster.
make_pki() {
    local node=$1 san=$2 name
    authority ca
    authority front-proxy-ca
    openssl genrsa -out "$work/pki/service-account.key" 2048 2>/dev/null
    openssl rsa -in "$work/pki/service-account.key" -pubout -out "$work/pki/service-account.pub" 2>/dev/null
    certificate apiserver ca /CN=kube-apiserver \
        "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,$san"
    certificate front-proxy-client front-proxy-ca /CN=front-proxy-client
    certificate admin ca /O=system:masters/CN=admin
    certificate kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client
    for name in kube-controller-manager kube-scheduler kube-proxy; do
        certificate $name ca /CN=system:$name
    done
    certificate kubelet ca "/O=system:nodes/CN=system:node:$node" "DNS:$node,$san"
}

# --- the control plane -------------------------------------------------------------------------------------------

# start_etcd: on a unix socket in $work/run, so that it takes no port.
start_etcd() {
    start etcd env -C "$work/run" "$bin/etcd" --data-dir="$work/etcd" --unsafe-no-fsync --logger=zap --log-level=warn \
        --listen-client-urls=unix://etcd.sock:0 --advertise-client-urls=unix://etcd.sock:0 \
        --listen-peer-urls=unix://peer.sock:0 --initial-advertise-peer-urls=unix://peer.sock:0 \
        --initial-cluster=default=unix://peer.sock:0
}

# start_apiserver BIND-ADDRESS PORT SERVICE-CIDR FLAG...
start_apiserver() {
    local bind=$1 port=$2 services=$3
    shift 3
    start kube-apiserver env -C "$work/run" "$bin/kube-apiserver" --etcd-servers=unix://etcd.sock:0 \
        --bind-address="$bind" --secure-port="$port" --service-cluster-ip-range="$services" \
        --tls-cert-file="$work/pki/apiserver.crt" --tls-private-key-file="$work/pki/apiserver.key" \
        --client-ca-file="$work/pki/ca.crt" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --service-account-issuer=https://kubernetes.default.svc.cluster.local \
        --service-account-key-file="$work/pki/service-account.pub" \
        --service-account-signing-key-file="$work/pki/service-account.key" \
        --requestheader-client-ca-file="$work/pki/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
        --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --proxy-client-cert-file="$work/pki/front-proxy-client.crt" \
        --proxy-client-key-file="$work/pki/front-proxy-client.key" \
        --kubelet-client-certificate="$work/pki/kubelet-client.crt" --kubelet-client-key="$work/pki/kubelet-client.key" \
        --kubelet-certificate-authority="$work/pki/ca.crt" --allow-privileged --profiling=false "$@"
}

start_controller_manager() {
    start kube-controller-manager "$bin/kube-controller-manager" --kubeconfig="$work/pki/kube-controller-manager.kubeconfig" \
        --leader-elect=false --secure-port=0 --use-service-account-credentials --root-ca-file="$work/pki/ca.crt" \
        --service-account-private-key-file="$work/pki/service-account.key" \
        --cluster-signing-cert-file="$work/pki/ca.crt" --cluster-signing-key-file="$work/pki/ca.key" \
        --kube-api-qps=100 --kube-api-burst=200
}

# kubectl with the cluster's own kubeconfig and its own discovery cache; $server may name another way in.
kubectl() { KUBECACHEDIR=$work/run/kubectl "$bin/kubectl" --kubeconfig "$work/kubeconfig" ${server:+--server "$server"} "$@"; }
