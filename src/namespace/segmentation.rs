//! Cuts bytes into segments for tests, as a network does.

/// Cuts `bytes` at places that `cuts` chooses; a piece may be empty.
pub fn segments<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let pairs = places.windows(2);
    pairs.map(|pair| &bytes[pair[0]..pair[1]]).collect()
}
