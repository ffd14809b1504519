//! MurmurHash2 in 64 bits, as libstdc++'s `std::hash` has it. Source: Envoy's `MurmurHash::murmurHash2`.

const SEED: u64 = 0xc70f_6907;
const MULTIPLIER: u64 = 0xc6a4_a793_5bd1_e995;

fn mix(value: u64) -> u64 {
    value ^ (value >> 47)
}

pub fn murmur_hash_2(bytes: &[u8]) -> u64 {
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        hash = (hash ^ mix(word.wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER)).wrapping_mul(MULTIPLIER);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0u64, |word, byte| (word << 8) | u64::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    mix(mix(hash).wrapping_mul(MULTIPLIER))
}

#[cfg(test)]
mod tests {
    use super::murmur_hash_2;

    /// From Envoy's own test of the function.
    #[test]
    fn known_values() {
        for (text, hash) in [("a", 4_993_892_634_952_068_459), ("abcdefgh", 8_664_279_048_047_335_611)] {
            assert_eq!(murmur_hash_2(text.as_bytes()), hash, "{text}");
        }
    }
}
