//! Rotation of the root with no failed request: first everyone learns to trust the new root beside the old, then the new one
//! signs, and at the end the old one is forgotten.

use std::path::Path;

use super::{CaError, state};

const NEXT_KEY: &str = "next-ca-key.pem";
const NEXT_ROOT: &str = "next-root-cert.pem";

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
