//! The whole mesh by the one command: real pilot, real sidecars, real services.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use tests::local::curl;
use tests::process::{output, program};

fn verify(more: &[&str]) {
    let outrigger = program("outrigger");
    let _ = ["pilot", "sidecar"].map(program);
    let out = Command::new(outrigger).args(["demo", "--verify"]).args(more).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    let (good, bad) = (said.matches("ok      ").count(), said.matches("not ok  ").count());
    let all = format!("{said}{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && good >= 10 && bad == 0, "{all}");
}

/// One after the other: they use the same addresses.
#[test]
fn the_demo_proves_what_it_claims() {
    verify(&[]);
    match std::env::var("ENVOY_BIN") {
        Ok(envoy) => verify(&["--proxy", &envoy]),
        Err(_) => eprintln!("ENVOY_BIN is not set: the demo was not run with Envoy"),
    }
}

/// What runs it may be gone at once, as with `kubectl exec`: it answers all the same.
#[test]
fn an_application_outlives_who_started_it() {
    let start = format!(
        "{} demo-app alone --listen 127.0.20.51:8080 >/dev/null 2>&1 & \
         curl --silent --output /dev/null --retry 10 --retry-connrefused http://127.0.20.51:8080/; echo $!",
        program("outrigger").display()
    );
    let said = output(Command::new("sh").args(["-c", &start])).unwrap();
    let answered = curl(&["http://127.0.20.51:8080/"]);
    output(Command::new("kill").arg(said.trim())).unwrap();
    assert!(answered.unwrap().contains("\"app\":\"alone\""));
}
