//! Secrets of the bootstrap whose files change are read again, so that the next handshake trusts a root that was rotated. What cannot be
//! read leaves the secret as it was. Envoy reads them once, and secrets of a `path_config_source` again, as this does too.

use std::sync::Arc;
use std::time::Duration;

use daemon::files::Changes;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use tracing::{info, warn};

use super::secret::{secret, secret_files};
use crate::tls::secrets::{SecretRef, SecretStore};

/// Several files that are replaced at once are read once.
const QUIET: Duration = Duration::from_millis(50);

/// Follows the files for as long as it is waited for.
pub async fn follow(mut secrets: Vec<pb::Secret>, store: Arc<SecretStore>) {
    secrets.retain(|secret| !secret_files(secret).is_empty());
    let mut changes = Changes::beside(secrets.iter().flat_map(secret_files), QUIET);
    loop {
        changes.next().await;
        secrets.iter().for_each(|secret| read(secret, &store));
    }
}

fn read(config: &pb::Secret, store: &SecretStore) {
    let name = &config.name;
    let Some(slot) = store.slot(SecretRef { name: name.clone(), source: None }) else { return };
    match secret(config) {
        Ok(value) => {
            info!(name, "files have changed: the secret is read again");
            slot.set(value);
        }
        Err(error) => warn!(name, "the secret stays as it was: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3 as core;

    use super::*;

    #[tokio::test]
    async fn a_root_that_is_replaced_as_the_kubelet_does_is_read_again() {
        let folder = std::env::temp_dir().join(format!("outrigger-follow-{}", std::process::id()));
        let replace = |version: &str, text: &str| {
            std::fs::create_dir_all(folder.join(version)).unwrap();
            std::fs::write(folder.join(version).join("root.pem"), text).unwrap();
            std::os::unix::fs::symlink(version, folder.join("..new")).unwrap();
            std::fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
        };
        let root = || {
            let key = rcgen::KeyPair::generate().unwrap();
            rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()
        };
        replace("..1", &root());
        std::os::unix::fs::symlink("..data/root.pem", folder.join("root.pem")).unwrap();
        let file = core::data_source::Specifier::Filename(folder.join("root.pem").display().to_string());
        let trusted_ca = Some(core::DataSource { specifier: Some(file), ..Default::default() });
        let context = pb::CertificateValidationContext { trusted_ca, ..Default::default() };
        let config =
            pb::Secret { name: "roots".to_owned(), r#type: Some(pb::secret::Type::ValidationContext(context)) };
        let store = SecretStore::new();
        store.add_static("roots", secret(&config).unwrap());
        let slot = store.slot(SecretRef { name: "roots".to_owned(), source: None }).unwrap();
        let seen = slot.version();
        tokio::spawn(follow(vec![config], store));
        tokio::time::sleep(QUIET).await;
        let until = async |version: u64| {
            while slot.version() <= version {
                tokio::time::sleep(QUIET).await;
            }
        };
        replace("..2", &root());
        tokio::time::timeout(QUIET * 100, until(seen)).await.unwrap();
        let good = slot.version();
        replace("..3", "nonsense");
        tokio::time::sleep(QUIET * 4).await;
        assert_eq!(slot.version(), good);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
