//! Encoding terms in all the ways that the format allows.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::term::Term;

/// Chooses between the encodings of a term. Zero stands for the canonical one, as does the end of the
/// choices.
#[derive(Clone, Debug)]
pub struct Choices(std::vec::IntoIter<u8>);

impl Choices {
    fn next(&mut self, options: u8) -> u8 {
        self.0.next().unwrap_or(0) % options
    }
}

/// Any encoding of a term.
pub fn choices() -> impl Strategy<Value = Choices> {
    vec(any::<u8>(), 0..80).prop_map(|choices| Choices(choices.into_iter()))
}

/// The term in canonical form.
pub fn canonical(term: &Term) -> Vec<u8> {
    encode(term, &mut Choices(Vec::new().into_iter()))
}

/// The term in the chosen encoding.
pub fn encode(term: &Term, choices: &mut Choices) -> Vec<u8> {
    match term {
        Term::Integer(negative, magnitude) => integer(*negative, magnitude, choices),
        Term::Float(bits) => match choices.next(2) {
            0 => [&[70][..], &bits.to_be_bytes()].concat(),
            _ => {
                let mut text = format!("{:.20e}", f64::from_bits(*bits)).into_bytes();
                text.resize(31, 0);
                [&[99][..], &text].concat()
            }
        },
        Term::Atom(text) => atom(text, choices),
        Term::Binary(bytes) => match choices.next(2) {
            0 => with_length(109, bytes),
            _ => bit_string(bytes, if bytes.is_empty() { 0 } else { 8 }),
        },
        Term::Bits(bytes, bits) => {
            let mut bytes = bytes.clone();
            // The unused bits may have any value.
            *bytes.last_mut().unwrap() |= choices.next(255) & (u8::MAX >> bits);
            bit_string(&bytes, *bits)
        }
        Term::List(elements, tail) => list(elements, tail.as_deref(), choices),
        Term::Tuple(elements) => {
            let head = match choices.next(2) {
                0 => vec![104, u8::try_from(elements.len()).unwrap()],
                _ => with_count(105, elements.len()),
            };
            [head, encode_all(elements, choices)].concat()
        }
        Term::Map(pairs) => {
            let mut pairs = pairs.clone();
            let positions = usize::from(choices.next(8)) % pairs.len().max(1);
            pairs.rotate_left(positions);
            let mut bytes = with_count(116, pairs.len());
            for (key, value) in &pairs {
                bytes.extend(encode(key, choices));
                bytes.extend(encode(value, choices));
            }
            bytes
        }
        Term::Opaque(tag, words, node, id) => {
            let words = words.map(u16::to_be_bytes).unwrap_or_default();
            let words: &[u8] = if words == [0, 0] { &[] } else { &words };
            [&[*tag], words, &atom(node, choices), id].concat()
        }
    }
}

/// The term with its version byte.
pub fn external(term: &Term, choices: &mut Choices) -> Vec<u8> {
    [vec![131], encode(term, choices)].concat()
}

/// The canonical form with its version byte.
pub fn canonical_external(term: &Term) -> Vec<u8> {
    [vec![131], canonical(term)].concat()
}

fn encode_all(terms: &[Term], choices: &mut Choices) -> Vec<u8> {
    terms
        .iter()
        .flat_map(|term| encode(term, choices))
        .collect()
}

fn with_count(tag: u8, count: usize) -> Vec<u8> {
    let count = u32::try_from(count).unwrap();
    [&[tag][..], &count.to_be_bytes()].concat()
}

fn with_length(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [with_count(tag, bytes.len()), bytes.to_vec()].concat()
}

fn bit_string(bytes: &[u8], bits: u8) -> Vec<u8> {
    [&with_count(77, bytes.len())[..], &[bits], bytes].concat()
}

fn integer(negative: bool, magnitude: &[u8], choices: &mut Choices) -> Vec<u8> {
    let mut wide = [0; 4];
    let small = magnitude.len() <= 4;
    if small {
        wide[..magnitude.len()].copy_from_slice(magnitude);
    }
    let value = i64::from(u32::from_le_bytes(wide));
    let value = if negative { -value } else { value };
    let mut encodings = Vec::new();
    if let (true, Ok(byte)) = (small, u8::try_from(value)) {
        encodings.push(vec![97, byte]);
    }
    if let (true, Ok(value)) = (small, i32::try_from(value)) {
        encodings.push([&[98][..], &value.to_be_bytes()].concat());
    }
    for zeros in [0, 1, 5] {
        let magnitude = [magnitude, &vec![0; zeros]].concat();
        if let Ok(length) = u8::try_from(magnitude.len()) {
            encodings.push([&[110, length, negative.into()], &magnitude[..]].concat());
        }
        let head = with_count(111, magnitude.len());
        encodings.push([&head[..], &[negative.into()], &magnitude].concat());
    }
    let choice = choices.next(u8::try_from(encodings.len()).unwrap());
    encodings.swap_remove(choice.into())
}

fn atom(text: &str, choices: &mut Choices) -> Vec<u8> {
    let short = |tag: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).ok()?;
        Some([&[tag, length], bytes].concat())
    };
    let long = |tag: u8, bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).ok()?;
        Some([&[tag][..], &length.to_be_bytes(), bytes].concat())
    };
    let latin1: Option<Vec<u8>> = text.chars().map(|char| u8::try_from(char).ok()).collect();
    let latin1 = latin1.as_deref();
    let encodings = [
        short(119, text.as_bytes()),
        long(118, text.as_bytes()),
        latin1.and_then(|bytes| long(100, bytes)),
        latin1.and_then(|bytes| short(115, bytes)),
    ];
    let mut encodings: Vec<_> = encodings.into_iter().flatten().collect();
    let choice = choices.next(u8::try_from(encodings.len()).unwrap());
    encodings.swap_remove(choice.into())
}

fn list(elements: &[Term], tail: Option<&Term>, choices: &mut Choices) -> Vec<u8> {
    let string: Option<Vec<u8>> = elements.iter().map(as_byte).collect();
    let string = string.filter(|_| tail.is_none());
    match (choices.next(4), string) {
        (0, Some(_)) if elements.is_empty() => vec![106],
        (0, Some(bytes)) => {
            let length = u16::try_from(bytes.len()).unwrap();
            [&[107][..], &length.to_be_bytes(), &bytes].concat()
        }
        // In two lists: the second is the tail of the first.
        (2, _) if tail.is_none() || !elements.is_empty() => {
            let position = usize::from(choices.next(8)).min(elements.len());
            let (front, rest) = elements.split_at(position);
            let head = with_count(108, front.len());
            let front = encode_all(front, choices);
            [head, front, list(rest, tail, choices)].concat()
        }
        _ => {
            let head = with_count(108, elements.len());
            let elements = encode_all(elements, choices);
            let tail = tail.map_or(vec![106], |tail| encode(tail, choices));
            [head, elements, tail].concat()
        }
    }
}

fn as_byte(term: &Term) -> Option<u8> {
    match term {
        Term::Integer(false, magnitude) => match magnitude[..] {
            [] => Some(0),
            [byte] => Some(byte),
            _ => None,
        },
        _ => None,
    }
}
