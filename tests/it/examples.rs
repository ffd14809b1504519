//! Every example, run: what its README claims is so.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tests::local::{LocalMesh, curl};
use tests::process::{Folder, Running, program, until};

const CALLS: usize = 300;
/// Where `web` calls from.
const WEB: &str = "http://127.0.20.11:15001";

type Check = fn(&mut LocalMesh);

/// One after the other: they use the same addresses.
#[test]
fn they_do_what_they_say() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let checks: [(&str, Check); 6] = [
        ("canary-split", canary_split),
        ("ab-by-header", ab_by_header),
        ("access-control", access_control),
        ("tcp-split", tcp_split),
        ("retries-and-timeouts", retries_and_timeouts),
        ("zipkin", zipkin),
    ];
    for (name, check) in checks {
        check(&mut LocalMesh::start(&examples, name));
    }
    front_proxy(&examples.join("front-proxy/envoy/front-proxy.yaml"));
    let folders = examples.read_dir().unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(folders, checks.len() + 1, "an example is not run");
}

/// What answered each of many calls of `web` to `reviews`.
fn answers(more: &[&str]) -> Vec<String> {
    let url = format!("{WEB}/?[1-{CALLS}]");
    let args = [&["-H", "host: reviews:9080", "-w", "\\n"], more, &[&url]].concat();
    let said = until("reviews", || curl(&args));
    said.lines().map(|text| text.split('"').nth(3).unwrap_or(text).to_owned()).collect()
}

fn share(of: &str, answers: &[String]) -> f64 {
    answers.iter().filter(|app| *app == of).count() as f64 / answers.len() as f64
}

/// Within four standard deviations.
fn near(share: f64, wanted: f64) -> bool {
    (share - wanted).abs() <= 4.0 * (wanted * (1.0 - wanted) / CALLS as f64).sqrt()
}

fn canary_split(mesh: &mut LocalMesh) {
    let before = share("reviews-v2", &answers(&[]));
    assert!(near(before, 0.1), "{before}");
    mesh.change("split.yaml", "weight: 90", "weight: 0");
    let changed = Instant::now();
    until("the new weights", || match curl(&["-H", "host: reviews:9080", WEB]) {
        // All of several calls in a row: one alone may be chance.
        Ok(_) if share("reviews-v2", &answers(&[])) > 0.99 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(changed.elapsed() < Duration::from_secs(5), "{:?}", changed.elapsed());
}

fn ab_by_header(_: &mut LocalMesh) {
    let testers = answers(&["-H", "x-group: test"]);
    assert!(testers.iter().all(|app| app == "reviews-v2"), "{testers:?}");
    let others = answers(&[]);
    assert!(others.iter().all(|app| app == "reviews-v1"), "{others:?}");
}

fn access_control(_: &mut LocalMesh) {
    let status = |method: &str, path: &str| {
        let args = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "host: reviews:9080", "-X", method];
        let said = Command::new("curl").args(args).arg(format!("{WEB}{path}")).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    until("reviews", || match status("GET", "/public/a").as_str() {
        "200" => Ok(()),
        other => Err(other.to_owned()),
    });
    for (method, path) in [("POST", "/public/a"), ("GET", "/private"), ("GET", "/public/../private")] {
        assert_eq!(status(method, path), "403", "{method} {path}");
    }
}

fn tcp_split(_: &mut LocalMesh) {
    let echo = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect("127.0.20.11:15432")?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"hello")?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    until("db", || match echo() {
        Ok(said) if said.ends_with(":hello") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let said: Vec<String> = (0..CALLS).map(|_| echo().unwrap()).collect();
    let first = share("db-1:hello", &said);
    assert!(near(first, 0.75), "{first}");
}

/// A service dies, and so does the sidecar of another, and the pilot: no call fails. The pilot comes back, and nothing changes.
fn retries_and_timeouts(mesh: &mut LocalMesh) {
    let stats = |filter: &str| curl(&[&format!("http://127.0.20.11:15000/stats?filter={filter}")]);
    let modified = || stats("listener_manager.listener_(modified|removed|added)$");
    // A log whose messages encode in another order each time: that is no change.
    let first = modified().unwrap();
    let json = "apiVersion: mesh.outrigger.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {accessLog: {format: json}}\n";
    std::fs::write(mesh.manifests.join("mesh.yaml"), json).unwrap();
    until("the log's format", || if modified()? == first { Err(first.clone()) } else { Ok(()) });
    assert_eq!(answers(&[]).len(), CALLS);
    let load = std::thread::spawn(|| {
        let url = format!("{WEB}/?[1-3000]");
        let args =
            ["-s", "-o", "/dev/null", "--rate", "500/s", "-w", "%{http_code}\\n", "-H", "host: reviews:9080", &url];
        String::from_utf8(Command::new("curl").args(args).output().unwrap().stdout).unwrap()
    });
    let pause = || std::thread::sleep(Duration::from_millis(300));
    pause();
    mesh.pilot.kill();
    pause();
    // Both die as with `kill -9`: what was under way there is retried elsewhere.
    mesh.sidecars.get_mut("reviews-v1").unwrap().kill();
    let before = modified().unwrap();
    pause();
    mesh.restart_pilot();
    until("the pilot's proxies", || {
        match curl(&["http://127.0.20.11:15000/stats?filter=control_plane.connected_state"]) {
            Ok(said) if said.trim().ends_with(": 1") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    pause();
    assert_eq!(modified().unwrap(), before, "the pilot came back and listeners changed");
    assert!(!load.is_finished(), "the load was over before all was done");
    let codes = load.join().unwrap();
    let failed: Vec<&str> = codes.lines().filter(|code| *code != "200").collect();
    assert!(failed.is_empty() && codes.lines().count() == 3000, "{} failed: {failed:?}", failed.len());
}

/// Stands where Zipkin would: spans are posted to it.
fn zipkin(_: &mut LocalMesh) {
    let posted: Arc<Mutex<String>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:9411").unwrap();
    let into = posted.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let into = into.clone();
            std::thread::spawn(move || take(stream, &into));
        }
    });
    assert_eq!(answers(&[]).len(), CALLS);
    until("spans of both sides", || {
        let spans = posted.lock().unwrap();
        let both = ["\"CLIENT\"", "\"SERVER\"", "web.shop", "reviews-v1.shop"];
        match both.iter().find(|what| !spans.contains(**what)) {
            None => Ok(()),
            Some(missing) => Err(format!("{missing} is missing in {} bytes", spans.len())),
        }
    });
}

/// Answers every request on a connection with 202, and keeps all that came.
fn take(mut stream: TcpStream, into: &Mutex<String>) {
    let mut bytes = [0; 65536];
    while let Ok(read) = stream.read(&mut bytes) {
        if read == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
        let ends = text.ends_with(']');
        into.lock().unwrap().push_str(&text);
        if ends && stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

/// The same file starts our sidecar and Envoy, and both do the same.
fn front_proxy(bootstrap: &Path) {
    let folder = Folder::new("front-proxy");
    let app = |name: &str, address: &str| {
        let mut command = Command::new(program("outrigger"));
        command.args(["demo-app", name, "--listen", address]);
        Running::start(&mut command, &folder.join(name))
    };
    let _apps = [app("one", "127.0.20.32:8080"), app("two", "127.0.20.33:8080")];
    let envoy = std::env::var_os("ENVOY_BIN").map(PathBuf::from);
    for proxy in [Some(program("sidecar")), envoy].into_iter().flatten() {
        let mut command = Command::new(&proxy);
        command.arg("-c").arg(bootstrap).args(["--concurrency", "1", "--disable-hot-restart"]);
        let mut running = Running::start(&mut command, &folder.join("proxy"));
        for (path, app) in [("/service/1/a", "one"), ("/service/2", "two")] {
            let said = until(path, || curl(&[&format!("http://127.0.20.31:8000{path}")]));
            assert!(said.contains(&format!("\"app\":\"{app}\"")), "{said}");
        }
        assert!(curl(&["http://127.0.20.31:8000/service/12"]).is_err());
        let stats = curl(&["http://127.0.20.31:8001/stats?filter=ingress_http.downstream_rq_2xx"]).unwrap();
        assert!(stats.contains("downstream_rq_2xx: "), "{stats}");
        running.kill();
    }
}
