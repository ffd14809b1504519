//! Capture for real: applications that know nothing of a proxy, each in a network namespace of its own, with the rules of
//! `outrigger capture apply`, and what was on the wire between them.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use tests::netns::{HUB, Network};
use tests::process::{Folder, Running, output, program, until};

/// Who there is, by the last part of the address. The last one is not of the mesh.
const PLACES: [(&str, u8); 5] = [("web", 11), ("reviews-v1", 12), ("reviews-v2", 13), ("db", 14), ("outside", 15)];
const MESHED: usize = 4;
const CALLS: usize = 200;

/// The family of the addresses by which all call each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    /// A place's address.
    fn place(self, last: u8) -> String {
        match self {
            Self::V4 => format!("10.77.0.{last}"),
            Self::V6 => format!("fd77::{last}"),
        }
    }

    /// A Service's.
    fn service(self, last: u8) -> String {
        match self {
            Self::V4 => format!("10.96.0.{last}"),
            Self::V6 => format!("fd96::{last}"),
        }
    }
}

/// An address as it stands in a URL.
fn host(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

fn manifests(family: Family) -> String {
    let mut text = String::new();
    for (name, last) in &PLACES[..MESHED] {
        let address = family.place(*last);
        let app = name.split('-').next().unwrap();
        text += &format!(
            "---\napiVersion: mesh.outrigger.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: {name}, namespace: shop, labels: {{app: {app}, run: {name}}}}}\n\
             spec: {{address: \"{address}\", serviceAccount: {app}, capture: iptables, ports: [{{name: http, port: 8080}}, {{name: tcp-echo, port: 9000}}]}}\n"
        );
    }
    let services = [("web", "app: web", 10), ("reviews", "app: reviews", 11), ("reviews-v1", "run: reviews-v1", 12)];
    let services = services.into_iter().chain([("reviews-v2", "run: reviews-v2", 13), ("db", "app: db", 14)]);
    for (name, selector, last) in services {
        let address = family.service(last);
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{clusterIP: \"{address}\", selector: {{{selector}}}, ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: tcp-echo, port: 9000}}]}}\n"
        );
    }
    text + "---\napiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: reviews, namespace: shop}\n\
            spec: {service: reviews, backends: [{service: reviews-v1, weight: 75}, {service: reviews-v2, weight: 25}]}\n"
}

/// The mesh in its namespaces.
struct Mesh {
    sidecars: Vec<Running>,
    _apps: Vec<Running>,
    _pilot: Option<Running>,
    // Last, so that processes have left them.
    folder: Folder,
    network: Network,
    family: Family,
}

impl Mesh {
    /// The places with their applications, and nothing else.
    fn bare(family: Family) -> Self {
        let folder = Folder::new("capture");
        let mut network = Network::new();
        let mut apps = Vec::new();
        for (name, last) in PLACES {
            network.join(name, last);
            for (port, tcp) in [(8080, false), (9000, true)] {
                let mut app = network.run(name, program("outrigger"));
                app.args(["demo-app", name, "--listen", &format!("[::]:{port}")]).args(tcp.then_some("--tcp"));
                apps.push(Running::start(&mut app, &folder.join(&format!("{name}-{port}.log"))));
            }
        }
        let mesh = Self { sidecars: Vec::new(), _apps: apps, _pilot: None, folder, network, family };
        for (name, last) in PLACES {
            until(name, || mesh.curl("outside", &[&format!("http://{}:8080/", mesh.place(last))]));
        }
        mesh
    }

    /// A place as it stands in a URL.
    fn place(&self, last: u8) -> String {
        host(&self.family.place(last))
    }

    /// A Service as it stands in a URL.
    fn service(&self, last: u8) -> String {
        host(&self.family.service(last))
    }

    /// Pilot, sidecars and rules. `proxy` is any that starts as Envoy does.
    fn mesh(&mut self, proxy: &Path) {
        std::fs::create_dir_all(self.folder.join("manifests")).unwrap();
        std::fs::write(self.folder.join("manifests/mesh.yaml"), manifests(self.family)).unwrap();
        let secure = format!("{HUB}:15012");
        let mut pilot = self.network.run("hub", program("pilot"));
        pilot.arg("--manifests").arg(self.folder.join("manifests")).arg("--state").arg(self.folder.join("state"));
        pilot.args(["--secure-xds", &secure, "--monitoring", "127.0.0.1:15014", "--webhook", "127.0.0.1:15017"]);
        self._pilot = Some(Running::start(&mut pilot, &self.folder.join("pilot.log")));
        let sidecar = self.folder.join("sidecar");
        std::fs::copy(proxy, &sidecar).unwrap();
        for (name, last) in &PLACES[..MESHED] {
            let bootstrap = until(name, || self.bootstrap(name, &secure));
            let file = self.folder.join(&format!("{name}.yaml"));
            std::fs::write(&file, bootstrap).unwrap();
            let mut command = self.network.run(name, "setpriv");
            command
                .args(["--reuid=1337", "--regid=1337", "--clear-groups"])
                .arg(&sidecar)
                .arg("-c")
                .arg(&file)
                .arg("--disable-hot-restart");
            self.sidecars.push(Running::start(&mut command, &self.folder.join(&format!("{name}-sidecar.log"))));
            output(self.network.run(name, program("outrigger")).args(["capture", "apply"])).unwrap();
            until(name, || self.curl("outside", &[&format!("http://{}:15021/healthz/ready", self.place(*last))]));
        }
    }

    fn bootstrap(&self, name: &str, pilot: &str) -> Result<String, String> {
        let outrigger = || self.network.run("hub", program("outrigger"));
        let account = name.split('-').next().unwrap();
        let state = self.folder.join("state");
        let token = ["token", "create", "-n", "shop", "--service-account", account];
        let token = output(outrigger().args(token).arg("--state").arg(&state))?;
        let file = self.folder.join("token");
        std::fs::write(&file, token).unwrap();
        output(outrigger().args(["bootstrap", name, "-n", "shop", "--pilot", pilot]).arg("--token").arg(&file))
    }

    /// What a plain client gets.
    fn curl(&self, from: &str, args: &[&str]) -> Result<String, String> {
        output(
            self.network.run(from, "curl").args(["--silent", "--show-error", "--fail", "--max-time", "5"]).args(args),
        )
    }

    /// What the echo of an address says to a greeting.
    fn echo(&self, from: &str, address: &str) -> String {
        let script = format!("exec 3<>/dev/tcp/{address}/9000; printf hello >&3; cat <&3");
        let said = self.network.run(from, "timeout").args(["5", "bash", "-c", &script]).output();
        String::from_utf8_lossy(&said.unwrap().stdout).into_owned()
    }

    /// All packets on the bridge while `traffic` flows, as text.
    fn wire(&self, traffic: impl FnOnce()) -> Vec<u8> {
        let file = self.folder.join("wire.pcap");
        let mut command = self.network.run("hub", "tcpdump");
        command.args(["-i", "br0", "-U", "--immediate-mode", "-s", "0", "-Z", "root", "-w"]).arg(&file).arg("tcp");
        let dump = Running::start(&mut command, &self.folder.join("tcpdump.log"));
        until("tcpdump", || if dump.said().contains("listening on") { Ok(()) } else { Err(dump.said()) });
        traffic();
        // The last packets come after what they caused.
        let mut size = 0;
        until("packets", || {
            let now = std::fs::metadata(&file).map_or(0, |file| file.len());
            let rest = now == size && now > 24;
            size = now;
            if rest { Ok(()) } else { Err(format!("{now} bytes")) }
        });
        std::fs::read(&file).unwrap()
    }
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[test]
fn captured_calls_are_split_and_secret() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: network namespaces and their rules are made as root");
        return;
    }
    for family in [Family::V4, Family::V6] {
        a_new_service(&check(&program("sidecar"), family));
        match std::env::var_os("ENVOY_BIN") {
            Some(envoy) => drop(check(Path::new(&envoy), family)),
            None => eprintln!("ENVOY_BIN is not set: calls were not captured for Envoy"),
        }
    }
}

fn check(proxy: &Path, family: Family) -> Mesh {
    let mut mesh = Mesh::bare(family);
    let url = format!("http://{}:8080/marker-in-the-open", mesh.place(12));
    let open = mesh.wire(|| drop(mesh.curl("web", &[&url])));
    assert!(
        holds(&open, b"marker-in-the-open"),
        "a packet capture that does not see what is in the clear proves nothing"
    );

    mesh.mesh(proxy);
    until("the first answer", || mesh.curl("web", &[&format!("http://{}/", mesh.service(11))]));
    let mut apps: Vec<String> = Vec::new();
    let secret = mesh.wire(|| {
        let url = format!("http://{}/marker-in-secret?[1-{CALLS}]", mesh.service(11));
        apps = mesh
            .curl("web", &["-H", "x-marker: marker-in-secret", "-w", "\\n", &url])
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
    });
    check_calls(&apps);
    assert!(!holds(&secret, b"marker-in-secret"), "what was said is on the wire in the clear");
    // Handshakes and application data of TLS 1.3.
    assert!(holds(&secret, &[0x16, 0x03, 0x01]) && holds(&secret, &[0x17, 0x03, 0x03]), "there is no TLS on the wire");
    everywhere(&mesh);
    strangers(&mesh);
    mesh
}

/// A Service that is made while a caller keeps a connection to its address gets the caller's next requests.
fn a_new_service(mesh: &Mesh) {
    let script = "import http.client, sys\n\
        kept = http.client.HTTPConnection(sys.argv[1], 8080, timeout=5)\n\
        for _ in sys.stdin:\n \
        kept.request('GET', '/')\n print(kept.getresponse().read().decode(), flush=True)\n";
    let mut caller = mesh.network.run("web", "python3");
    let mut caller = caller
        .args(["-c", script, &mesh.family.place(15)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut ask, answers) = (caller.stdin.take().unwrap(), caller.stdout.take().unwrap());
    let mut answers = BufReader::new(answers).lines();
    let mut call = || {
        writeln!(ask, "again").unwrap();
        answers.next().expect("an answer").unwrap()
    };
    assert!(call().contains("\"app\":\"outside\""));
    let service = format!(
        "{}---\napiVersion: v1\nkind: Service\nmetadata: {{name: new, namespace: shop}}\n\
         spec: {{clusterIP: \"{}\", selector: {{run: reviews-v1}}, ports: [{{name: http, port: 8080}}]}}\n",
        manifests(mesh.family),
        mesh.family.place(15)
    );
    std::fs::write(mesh.folder.join("manifests/mesh.yaml"), service).unwrap();
    until("the new Service", || match call() {
        said if said.contains("\"app\":\"reviews-v1\"") => Ok(()),
        said => Err(said),
    });
    drop(ask);
    assert!(caller.wait().unwrap().success());
}

/// Shares within four standard deviations, and the caller's identity told to each.
fn check_calls(apps: &[String]) {
    assert_eq!(apps.len(), CALLS, "{apps:?}");
    let canary = apps.iter().filter(|text| text.contains("\"app\":\"reviews-v2\"")).count();
    let (mean, deviation) = (CALLS as f64 * 0.25, (CALLS as f64 * 0.25 * 0.75).sqrt());
    assert!((canary as f64 - mean).abs() < 4.0 * deviation, "{canary} of {CALLS} went to v2");
    assert!(apps.iter().all(|text| text.contains("URI=spiffe://cluster.local/ns/shop/sa/web")), "{:?}", apps.first());
}

/// Every way to call: the process's own Service, a workload's address, bytes, hosts outside.
fn everywhere(mesh: &Mesh) {
    let calls = |url: String| mesh.curl("web", &[&url]).unwrap();
    let own = calls(format!("http://{}/", mesh.service(10)));
    assert!(own.contains("\"app\":\"web\"") && own.contains("sa/web"), "{own}");
    let direct = calls(format!("http://{}:8080/", mesh.place(13)));
    assert!(direct.contains("\"app\":\"reviews-v2\"") && direct.contains("sa/web"), "{direct}");
    let outside = calls(format!("http://{}:8080/", mesh.place(15)));
    assert!(outside.contains("\"app\":\"outside\""), "{outside}");
    for address in [mesh.family.service(14), mesh.family.place(14)] {
        until(&address, || match mesh.echo("web", &address) {
            said if said == "db:hello" => Ok(()),
            said => Err(said),
        });
    }
}

/// Who is not of the mesh gets nothing, at no port.
fn strangers(mesh: &Mesh) {
    let refused = mesh.curl("outside", &[&format!("http://{}:8080/", mesh.place(12))]);
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(mesh.echo("outside", &mesh.family.place(14)), "");
}

/// The commands that these tests run are there.
#[test]
fn tools() {
    for (tool, args) in [("ip", ["-V"]), ("iptables", ["-V"]), ("tcpdump", ["--version"]), ("curl", ["-V"])] {
        output(Command::new(tool).args(args)).unwrap();
    }
}
