//! Arbitrary input for tests: noise, a valid sample with some of its bytes changed, JSON with some of its values
//! replaced, and what has no end. Changed samples get past the first check of a parser, which noise does not.

use proptest::{collection::vec, prelude::*};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Up to 256 arbitrary bytes.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..256)
}

/// A sample with up to six places changed, or noise.
pub fn mutated(sample: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let changed = vec(change(), 0..=6).prop_map(move |changes| {
        let apply = |bytes, change: Change| change.apply(bytes, sample);
        changes.into_iter().fold(sample.to_vec(), apply)
    });
    prop_oneof![4 => changed, 1 => bytes()]
}

/// As [`mutated`]; what is not UTF-8 is replaced.
pub fn mutated_text(sample: &'static str) -> impl Strategy<Value = String> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    prop_oneof![4 => mutated(sample.as_bytes()).prop_map(text), 1 => ".{0,60}"]
}

/// Any JSON, four levels deep.
pub fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Eighths are exact in text and in binary.
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        ".{0,12}".prop_map(Value::from),
        "[0-9]{1,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-zA-Z]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A sample with up to three of its values, at any depth, replaced by any JSON.
pub fn replaced(sample: Value) -> impl Strategy<Value = Value> {
    vec((any::<usize>(), json()), 0..=3).prop_map(move |changes| {
        let mut value = sample.clone();
        for (place, new) in changes {
            let place = place % count(&value);
            *nth(&mut value, &mut { place }).expect("it was counted") = new;
        }
        value
    })
}

/// Answers a request with these bytes.
pub async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) {
    let mut request = [0; 4096];
    assert!(stream.read(&mut request).await.unwrap() > 0);
    stream.write_all(bytes).await.unwrap();
}

/// Answers a request with 200 and a body that goes on until the connection is closed.
pub async fn answer_without_end(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    answer(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").await;
    while stream.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
}

#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize, usize),
    Delete(usize, usize),
    Truncate(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<usize>;
    // What parsers look at.
    let marks = "[\\[\\]{}\":,=.&*!<>|?#%\\- \\n\\r\\t0-9/`]{1,4}".prop_map(String::into_bytes);
    let piece = prop_oneof![marks, vec(any::<u8>(), 1..4)];
    prop_oneof![
        (place(), 1_u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (place(), piece).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (place(), place(), 1..40_usize)
            .prop_map(|(at, from, length)| Change::Repeat(at, from, length)),
        (place(), 1..12_usize).prop_map(|(at, length)| Change::Delete(at, length)),
        place().prop_map(Change::Truncate),
    ]
}

impl Change {
    fn apply(self, mut bytes: Vec<u8>, sample: &[u8]) -> Vec<u8> {
        let length = bytes.len();
        match self {
            Self::Flip(at, bits) if length > 0 => bytes[at % length] ^= bits,
            Self::Insert(at, piece) => {
                let at = at % (length + 1);
                bytes.splice(at..at, piece);
            }
            Self::Repeat(at, from, more) if !sample.is_empty() => {
                let (at, from) = (at % (length + 1), from % sample.len());
                let piece = &sample[from..(from + more).min(sample.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            Self::Delete(at, less) if length > 0 => {
                let at = at % length;
                bytes.drain(at..(at + less).min(length));
            }
            Self::Truncate(at) => bytes.truncate(at % (length + 1)),
            Self::Flip(..) | Self::Repeat(..) | Self::Delete(..) => {}
        }
        bytes
    }
}

fn inner(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(map) => map.values_mut().collect(),
        _ => Vec::new(),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

// Counted down on the way; the value itself is the first.
fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    inner(value).into_iter().find_map(|value| nth(value, left))
}
