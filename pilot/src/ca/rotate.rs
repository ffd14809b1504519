//! Rotation of the root with no failed request: first everyone learns to trust the new root beside the old, then the new one
//! signs, and at the end the old one is forgotten.

use std::collections::BTreeMap;
use std::path::Path;

use super::{CaError, state};

pub(super) const NEXT_KEY: &str = "next-ca-key.pem";
pub(super) const NEXT_ROOT: &str = "next-root-cert.pem";

/// A step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next root is trusted beside the old.
    Begin,
    /// The next root signs.
    Switch,
    /// The old one is forgotten.
    Finish,
}

/// Takes a step where all files are replaced at once: those of a Secret, by name, with the certificate that signs under `issuer`.
///
/// # Errors
/// When something is missing, or no key can be made.
pub(super) fn step(files: &mut BTreeMap<String, String>, issuer: &str, step: Step) -> Result<(), CaError> {
    let get =
        |files: &BTreeMap<String, String>, name: &'static str| files.get(name).cloned().ok_or(CaError::Missing(name));
    let roots = state::split(&get(files, state::ROOT)?);
    match step {
        Step::Begin if files.contains_key(NEXT_ROOT) => {}
        Step::Begin => {
            let (key, root) = state::new_root()?;
            files.insert(state::ROOT.to_owned(), format!("{}{root}", roots.concat()));
            files.insert(NEXT_KEY.to_owned(), key);
            files.insert(NEXT_ROOT.to_owned(), root);
        }
        Step::Switch => {
            let (key, root) = (get(files, NEXT_KEY)?, get(files, NEXT_ROOT)?);
            let others: String = roots.into_iter().filter(|one| one.trim() != root.trim()).collect();
            files.insert(state::ROOT.to_owned(), format!("{root}{others}"));
            files.insert(state::KEY.to_owned(), key);
            files.insert(state::CHAIN.to_owned(), root.clone());
            files.insert(issuer.to_owned(), root);
            files.retain(|name, _| name != NEXT_KEY && name != NEXT_ROOT);
        }
        Step::Finish => {
            let signs = get(files, state::CHAIN)?;
            let last = state::split(&signs).pop().ok_or(CaError::Missing(state::CHAIN))?;
            files.insert(state::ROOT.to_owned(), last);
        }
    }
    Ok(())
}

/// Makes the next root, and has it trusted beside the old. Begun twice, it goes on where it was.
///
/// # Errors
/// When the folder cannot be read or written, or holds no authority.
pub fn begin(folder: &Path) -> Result<(), CaError> {
    if !folder.join(NEXT_ROOT).exists() {
        let (key, root) = state::new_root()?;
        state::replace(folder, NEXT_KEY, &key)?;
        state::replace(folder, NEXT_ROOT, &root)?;
    }
    let (old, next) = (state::read(folder, state::ROOT)?, state::read(folder, NEXT_ROOT)?);
    if old.contains(next.trim()) { Ok(()) } else { state::replace(folder, state::ROOT, &format!("{old}{next}")) }
}

/// Has the next root sign. Everyone must trust it by now. Until both files are in place a reader keeps what it had. The roots stay
/// the same, but the one that signs comes first: by that change, proxies know that it is time for a new certificate.
///
/// # Errors
/// As [`begin`].
pub fn switch(folder: &Path) -> Result<(), CaError> {
    let (key, root) = (state::read(folder, NEXT_KEY)?, state::read(folder, NEXT_ROOT)?);
    state::replace(folder, state::KEY, &key)?;
    state::replace(folder, state::CHAIN, &root)?;
    let roots = state::split(&state::read(folder, state::ROOT)?);
    let others: String = roots.into_iter().filter(|one| one.trim() != root.trim()).collect();
    state::replace(folder, state::ROOT, &format!("{root}{others}"))?;
    state::remove(folder, NEXT_KEY)?;
    state::remove(folder, NEXT_ROOT)
}

/// Forgets every root but the one that signs. No certificate of an old one may be in use any longer.
///
/// # Errors
/// As [`begin`].
pub fn finish(folder: &Path) -> Result<(), CaError> {
    let chain = state::split(&state::read(folder, state::CHAIN)?);
    match chain.last() {
        Some(root) => state::replace(folder, state::ROOT, root),
        None => Ok(()),
    }
}
