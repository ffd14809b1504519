//! The state folder: `ca-key.pem`, `root-cert.pem`, `cert-chain.pem`. Keys are for their owner's eyes alone.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::CaError;

pub(super) const KEY: &str = "ca-key.pem";
pub(super) const ROOT: &str = "root-cert.pem";
pub(super) const CHAIN: &str = "cert-chain.pem";
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

pub(super) struct Files {
    pub(super) key: String,
    /// The issuer first, the root last; one PEM each.
    pub(super) chain: Vec<String>,
    pub(super) roots: String,
}

/// Reads the folder, after making an authority there if there is none.
pub(super) fn open(folder: &Path) -> Result<Files, CaError> {
    make_folder(folder)?;
    if !folder.join(ROOT).exists() {
        make(folder)?;
    }
    let roots = read(folder, ROOT)?;
    let chain = match read(folder, CHAIN) {
        Ok(text) => text,
        Err(CaError::File { error, .. }) if error.kind() == ErrorKind::NotFound => roots.clone(),
        Err(error) => return Err(error),
    };
    Ok(Files { key: read(folder, KEY)?, chain: split(&chain), roots })
}

pub(super) fn make_folder(folder: &Path) -> Result<(), CaError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| CaError::File { path: folder.to_owned(), error })
}

pub(super) fn read(folder: &Path, name: &str) -> Result<String, CaError> {
    let path = folder.join(name);
    std::fs::read_to_string(&path).map_err(|error| CaError::File { path, error })
}

/// A key of its own and a root that signs itself. The key is made first and alone decides: of two processes that begin at
/// once, one makes it and the other takes it.
fn make(folder: &Path) -> Result<(), CaError> {
    let key = KeyPair::generate()?;
    let key = match create(folder, KEY, &key.serialize_pem()) {
        Ok(()) => key,
        Err(CaError::File { error, .. }) if error.kind() == ErrorKind::AlreadyExists => {
            KeyPair::from_pem(&read(folder, KEY)?)?
        }
        Err(error) => return Err(error),
    };
    let root = self_signed(&key)?;
    create(folder, CHAIN, &root).or_else(taken)?;
    create(folder, ROOT, &root).or_else(taken)
}

/// A key and the root that it signs. PEM.
pub(super) fn new_root() -> Result<(String, String), CaError> {
    let key = KeyPair::generate()?;
    Ok((key.serialize_pem(), self_signed(&key)?))
}

fn self_signed(key: &KeyPair) -> Result<String, CaError> {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "outrigger");
    // A new root must not be taken for the old one by its name.
    params.distinguished_name.push(DnType::CommonName, format!("outrigger root {:08x}", fastrand::u32(..)));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - super::BACKDATED).into();
    params.not_after = (now + ROOT_LIFETIME).into();
    let root = params.self_signed(key)?.pem();
    Ok(root)
}

/// Replaces a file, whole or not at all.
pub(super) fn replace(folder: &Path, name: &str, content: &str) -> Result<(), CaError> {
    let path = folder.join(name);
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    };
    write().map_err(|error| CaError::File { path: path.clone(), error })
}

pub(super) fn remove(folder: &Path, name: &str) -> Result<(), CaError> {
    let path = folder.join(name);
    std::fs::remove_file(&path).map_err(|error| CaError::File { path, error })
}

fn taken(error: CaError) -> Result<(), CaError> {
    match error {
        CaError::File { error, .. } if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => Err(other),
    }
}

/// Writes a file that must not exist yet, whole or not at all.
pub(super) fn create(folder: &Path, name: &str, content: &str) -> Result<(), CaError> {
    let path = folder.join(name);
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        // Unlike a rename, a link does not replace what another process made meanwhile.
        let linked = std::fs::hard_link(&draft, &path);
        std::fs::remove_file(&draft)?;
        linked
    };
    write().map_err(|error| CaError::File { path, error })
}

pub(super) fn split(pems: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    pems.split_inclusive(END).filter(|part| part.contains(END)).map(|part| format!("{}\n", part.trim_start())).collect()
}
