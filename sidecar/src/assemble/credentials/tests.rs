//! Who is shown which token.

use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};

use super::*;

#[test]
fn no_server_sees_the_others_token() {
    let folder = std::env::temp_dir().join(format!("outrigger-proofs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    for name in ["pilot", "ca"] {
        std::fs::write(file(name), format!("{name}-token\n")).unwrap();
    }
    let ads = Server { metadata: vec![("x-own".to_owned(), "1".to_owned())], ..Server::named("xds") };
    let check = |told: &[(&str, &str)], ca: Option<&str>, to_ads: &[&str], to_ca: &[&str]| {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = told.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
        let node = Node { metadata: Some(Struct { fields }), ..Node::default() };
        let proofs = Proofs::new(&node, Some(&ads));
        assert_eq!(proofs.ca().map(|ca| ca.cluster).as_deref(), ca, "{told:?}");
        let shown =
            |server: &Server| -> Vec<String> { proofs.of(server)().into_iter().map(|(_, value)| value).collect() };
        assert_eq!(shown(&ads), to_ads, "{told:?}");
        let ca = proofs.ca().map(|ca| shown(&ca)).unwrap_or_default();
        assert_eq!(ca, to_ca, "{told:?}");
    };
    let (pilot, other) = (file("pilot"), file("ca"));
    check(&[], None, &["1"], &[]);
    check(&[(metadata::CA, "xds")], Some("xds"), &["1"], &["1"]);
    let both = ["1", "Bearer pilot-token"];
    check(&[(metadata::CA, "xds"), (metadata::TOKEN_FILE, &pilot)], Some("xds"), &both, &both);
    check(&[(metadata::CA, "ca"), (metadata::TOKEN_FILE, &pilot)], Some("ca"), &both, &[]);
    let own = [(metadata::CA, "ca"), (metadata::TOKEN_FILE, &pilot), (metadata::CA_TOKEN_FILE, &other)];
    check(&own, Some("ca"), &both, &["Bearer ca-token"]);
    std::fs::remove_dir_all(&folder).unwrap();
}
