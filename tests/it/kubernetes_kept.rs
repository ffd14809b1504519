//! What the mesh lives by is put back; what came in while nobody looked is told of, and may go.
#![allow(clippy::unwrap_used)]

use tests::cluster::Cluster;
use tests::process::until;

/// An object that cannot be read, applied while no webhook was there.
pub(crate) fn unread(cluster: &Cluster, webhook_url: &str) {
    cluster.kubectl(&["delete", "validatingwebhookconfiguration/outrigger-injector"]).unwrap();
    let policy = "apiVersion: mesh.outrigger.dev/v1alpha1\nkind: TrafficPolicy\n\
        metadata: {name: unread, namespace: shop, finalizers: [shop.example/last]}\n\
        spec: {targetRef: {kind: Service, name: web}, retry: {attempts: 1, on: [sometimes]}}\n";
    cluster.apply(policy).unwrap();
    let condition = "jsonpath={.status.conditions[0].reason} {.status.conditions[0].observedGeneration}";
    cluster.shows(&["get", "trafficpolicies/unread", "-n", "shop", "-o", condition], "InvalidValue 1");
    cluster.shows(&["describe", "trafficpolicies/unread", "-n", "shop"], "Warning");
    cluster.outrigger(&["upgrade", "--set", "pilot.external=true", "--set", webhook_url]).unwrap();
    cluster.kubectl(&["delete", "trafficpolicies/unread", "-n", "shop", "--wait=false"]).unwrap();
    let last = ["--type=merge", "-p", "{\"metadata\":{\"finalizers\":null}}"];
    cluster.kubectl(&[&["patch", "trafficpolicies/unread", "-n", "shop"][..], &last].concat()).unwrap();
}

/// The CA's Secret: a new one would be of another mesh.
pub(crate) fn put_back(cluster: &Cluster) {
    let secret = ["get", "secret/outrigger-ca", "-n", "outrigger-system", "-o", "jsonpath={.data}"];
    let before = cluster.kubectl(&secret).unwrap();
    cluster.kubectl(&["delete", "secret/outrigger-ca", "-n", "outrigger-system"]).unwrap();
    let after = until("the Secret", || cluster.kubectl(&secret));
    assert!(before == after, "the CA is another");
}
