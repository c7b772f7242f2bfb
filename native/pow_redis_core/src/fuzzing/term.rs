//! The reference implementation of terms.

/// The most levels that are decoded. More than the code under test accepts, and few enough for the stack.
const MAX_LEVELS: usize = 1_000;

/// A term. Two terms are equal in Erlang (`=:=`) if their encodings are.
#[derive(Clone, Debug)]
pub(super) enum Term {
    /// Whether it is negative, and its magnitude: little-endian, without zeros at the end.
    Integer(bool, Vec<u8>),
    /// The bits of the float.
    Float(u64),
    Atom(String),
    /// Bytes, and the number of bits used in the last one.
    Bits(Vec<u8>, u8),
    /// The elements, and the tail of an improper list, which is not a list.
    List(Vec<Self>, Option<Box<Self>>),
    Tuple(Vec<Self>),
    /// The pairs in the order in which they were read. A key may occur twice.
    Map(Vec<(Self, Self)>),
    /// A pid, port or reference: its tag, the bytes before its node, its node, the bytes after it.
    Opaque(u8, Vec<u8>, String, Vec<u8>),
}

/// The bindings of the variables of a pattern.
type Bindings = Vec<(String, Term)>;

impl Term {
    /// The term of an external term. Returns `None` for other bytes, and for terms nested too deep.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[131])?;
        let term = decode(&mut rest, MAX_LEVELS)?;
        rest.is_empty().then_some(term)
    }

    /// The canonical form. Returns `None` if a map has a key twice.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        Some([vec![131], encode(self)?].concat())
    }

    /// The empty list.
    pub(super) const fn nil() -> Self {
        Self::List(Vec::new(), None)
    }

    /// Whether a pattern matches a term.
    pub(super) fn matches(&self, term: &Self) -> bool {
        matches(self, term, &mut Vec::new())
    }

    /// Whether a variable is a key of a map in a pattern.
    pub(super) fn has_variable_as_key(&self) -> bool {
        let mut terms: Vec<&Self> = Vec::new();
        match self {
            Self::List(elements, tail) => {
                terms.extend(elements);
                terms.extend(tail.as_deref());
            }
            Self::Tuple(elements) => terms.extend(elements),
            Self::Map(pairs) => {
                if pairs.iter().any(|(key, _)| key.is_variable()) {
                    return true;
                }
                terms.extend(pairs.iter().flat_map(|(key, value)| [key, value]));
            }
            _ => {}
        }
        terms.into_iter().any(Self::has_variable_as_key)
    }

    fn is_variable(&self) -> bool {
        let Self::Atom(text) = self else { return false };
        let number = text.strip_prefix('$').unwrap_or_default();
        text == "_"
            || number == "0"
            || (!number.is_empty()
                && !number.starts_with('0')
                && number.chars().all(|character| character.is_ascii_digit()))
    }
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// A number of as many bytes, big-endian.
fn number(bytes: &mut &[u8], length: usize) -> Option<usize> {
    let taken = take(bytes, length)?;
    Some(
        taken
            .iter()
            .fold(0, |number, &byte| number * 256 + usize::from(byte)),
    )
}

fn decode(bytes: &mut &[u8], levels: usize) -> Option<Term> {
    let below = levels.checked_sub(1)?;
    let tag = number(bytes, 1)?;
    Some(match tag {
        97 => integer(false, take(bytes, 1)?),
        98 => {
            let value = i32::from_be_bytes(*take(bytes, 4)?.first_chunk()?);
            integer(value < 0, &value.unsigned_abs().to_le_bytes())
        }
        110 | 111 => {
            let length = number(bytes, if tag == 110 { 1 } else { 4 })?;
            let negative = number(bytes, 1)? != 0;
            integer(negative, take(bytes, length)?)
        }
        70 => float(f64::from_be_bytes(*take(bytes, 8)?.first_chunk()?))?,
        99 => {
            let text = std::str::from_utf8(take(bytes, 31)?).ok()?;
            let text = text.trim_end_matches('\0').trim_start();
            float(text.parse().ok()?)?
        }
        100 | 115 | 118 | 119 => Term::Atom(atom(tag, bytes)?),
        109 => {
            let length = number(bytes, 4)?;
            Term::Bits(take(bytes, length)?.to_vec(), 8)
        }
        77 => {
            let length = number(bytes, 4)?;
            let used = u8::try_from(number(bytes, 1)?).ok()?;
            let mut content = take(bytes, length)?.to_vec();
            match content.last_mut() {
                None if used == 0 => return Some(Term::Bits(content, 8)),
                Some(last) if (1..=8).contains(&used) => {
                    *last = u8::try_from((u16::from(*last) >> (8 - used)) << (8 - used)).ok()?;
                }
                _ => return None,
            }
            Term::Bits(content, used)
        }
        106 => Term::nil(),
        107 => {
            let length = number(bytes, 2)?;
            let elements = take(bytes, length)?.iter();
            Term::List(
                elements.map(|&byte| integer(false, &[byte])).collect(),
                None,
            )
        }
        108 => {
            let count = number(bytes, 4)?;
            let mut elements = sequence(bytes, count, below)?;
            match decode(bytes, below)? {
                Term::List(more, tail) => {
                    elements.extend(more);
                    Term::List(elements, tail)
                }
                tail if elements.is_empty() => tail,
                tail => Term::List(elements, Some(Box::new(tail))),
            }
        }
        104 | 105 => {
            let count = number(bytes, if tag == 104 { 1 } else { 4 })?;
            Term::Tuple(sequence(bytes, count, below)?)
        }
        116 => {
            let count = number(bytes, 4)?;
            let mut terms = sequence(bytes, count * 2, below)?.into_iter();
            let mut pairs = Vec::new();
            while let (Some(key), Some(value)) = (terms.next(), terms.next()) {
                pairs.push((key, value));
            }
            Term::Map(pairs)
        }
        88 | 120 => opaque(tag, bytes, 0, 12)?,
        89 => opaque(tag, bytes, 0, 8)?,
        101 | 102 => opaque(tag, bytes, 0, 5)?,
        103 => opaque(tag, bytes, 0, 9)?,
        90 | 114 => {
            let words = number(&mut &**bytes, 2)?;
            if !(1..=5).contains(&words) {
                return None;
            }
            opaque(tag, bytes, 2, 4 * words + if tag == 90 { 4 } else { 1 })?
        }
        _ => return None,
    })
}

fn sequence(bytes: &mut &[u8], count: usize, levels: usize) -> Option<Vec<Term>> {
    let mut terms = Vec::new();
    for _ in 0..count {
        terms.push(decode(bytes, levels)?);
    }
    Some(terms)
}

fn integer(negative: bool, magnitude: &[u8]) -> Term {
    let mut magnitude = magnitude.to_vec();
    while magnitude.last() == Some(&0) {
        magnitude.pop();
    }
    Term::Integer(negative && !magnitude.is_empty(), magnitude)
}

fn float(value: f64) -> Option<Term> {
    value.is_finite().then(|| Term::Float(value.to_bits()))
}

fn atom(tag: usize, bytes: &mut &[u8]) -> Option<String> {
    let length = number(bytes, if tag == 115 || tag == 119 { 1 } else { 2 })?;
    let text = take(bytes, length)?;
    let text = match tag {
        100 | 115 => text.iter().copied().map(char::from).collect(),
        _ => std::str::from_utf8(text).ok()?.to_owned(),
    };
    (text.chars().count() <= 255).then_some(text)
}

fn opaque(tag: usize, bytes: &mut &[u8], before: usize, after: usize) -> Option<Term> {
    let before = take(bytes, before)?.to_vec();
    let node_tag = number(bytes, 1)?;
    if ![100, 115, 118, 119].contains(&node_tag) {
        return None;
    }
    let node = atom(node_tag, bytes)?;
    let after = take(bytes, after)?.to_vec();
    Some(Term::Opaque(u8::try_from(tag).ok()?, before, node, after))
}

fn encode(term: &Term) -> Option<Vec<u8>> {
    Some(match term {
        Term::Integer(negative, magnitude) => encode_integer(*negative, magnitude),
        Term::Float(bits) => [&[70][..], &bits.to_be_bytes()].concat(),
        Term::Atom(text) => encode_atom(text),
        Term::Bits(bytes, 8) => [with_count(109, bytes.len()), bytes.clone()].concat(),
        Term::Bits(bytes, bits) => [&with_count(77, bytes.len())[..], &[*bits], bytes].concat(),
        Term::List(elements, tail) => match (as_string(elements), tail) {
            (_, None) if elements.is_empty() => vec![106],
            (Some(string), None) => string,
            (_, tail) => {
                let tail = tail.as_deref().map_or(Some(vec![106]), encode)?;
                let head = with_count(108, elements.len());
                [head, encode_all(elements)?, tail].concat()
            }
        },
        Term::Tuple(elements) => {
            let head = match u8::try_from(elements.len()) {
                Ok(count) => vec![104, count],
                Err(_) => with_count(105, elements.len()),
            };
            [head, encode_all(elements)?].concat()
        }
        Term::Map(pairs) => {
            let mut encoded = Vec::new();
            for (key, value) in pairs {
                encoded.push((encode(key)?, encode(value)?));
            }
            encoded.sort();
            if encoded.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return None;
            }
            let mut out = with_count(116, encoded.len());
            for (key, value) in encoded {
                out.extend(key);
                out.extend(value);
            }
            out
        }
        Term::Opaque(tag, before, node, after) => {
            [&[*tag], &before[..], &encode_atom(node), after].concat()
        }
    })
}

fn encode_all(terms: &[Term]) -> Option<Vec<u8>> {
    let encoded: Option<Vec<_>> = terms.iter().map(encode).collect();
    Some(encoded?.concat())
}

fn encode_integer(negative: bool, magnitude: &[u8]) -> Vec<u8> {
    let mut wide = [0; 16];
    if magnitude.len() <= 8 {
        wide[..magnitude.len()].copy_from_slice(magnitude);
        let value = i128::from_le_bytes(wide) * if negative { -1 } else { 1 };
        if let Ok(byte) = u8::try_from(value) {
            return vec![97, byte];
        }
        if let Ok(value) = i32::try_from(value) {
            return [&[98][..], &value.to_be_bytes()].concat();
        }
    }
    let head = match u8::try_from(magnitude.len()) {
        Ok(length) => vec![110, length],
        Err(_) => with_count(111, magnitude.len()),
    };
    [&head[..], &[u8::from(negative)], magnitude].concat()
}

fn encode_atom(text: &str) -> Vec<u8> {
    let Ok(length) = u16::try_from(text.len()) else {
        panic!("an atom of {} bytes", text.len());
    };
    let head = match u8::try_from(length) {
        Ok(length) => vec![119, length],
        Err(_) => [&[118][..], &length.to_be_bytes()].concat(),
    };
    [&head[..], text.as_bytes()].concat()
}

/// A list of bytes encoded as a string.
fn as_string(elements: &[Term]) -> Option<Vec<u8>> {
    let length = u16::try_from(elements.len()).ok()?;
    let byte = |element: &Term| match element {
        Term::Integer(false, magnitude) if magnitude.is_empty() => Some(0),
        Term::Integer(false, magnitude) if magnitude.len() == 1 => Some(magnitude[0]),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = elements.iter().map(byte).collect();
    Some([&[107][..], &length.to_be_bytes(), &bytes?].concat())
}

fn with_count(tag: u8, count: usize) -> Vec<u8> {
    let Ok(count) = u32::try_from(count) else {
        panic!("a term of {count} terms or bytes");
    };
    [&[tag][..], &count.to_be_bytes()].concat()
}

fn matches(pattern: &Term, term: &Term, bindings: &mut Bindings) -> bool {
    match (pattern, term) {
        (Term::Atom(name), _) if pattern.is_variable() => {
            let bound = bindings.iter().find(|(bound, _)| bound == name);
            match bound {
                _ if name == "_" => true,
                Some((_, bound)) => encode(bound) == encode(term),
                None => {
                    bindings.push((name.clone(), term.clone()));
                    true
                }
            }
        }
        (Term::List(wanted, wanted_tail), Term::List(found, tail)) => {
            if found.len() < wanted.len() || !all_match(wanted, found, bindings) {
                return false;
            }
            let rest = match (&found[wanted.len()..], tail) {
                ([], Some(tail)) => (**tail).clone(),
                (rest, tail) => Term::List(rest.to_vec(), tail.clone()),
            };
            match wanted_tail {
                None => matches!(&rest, Term::List(more, None) if more.is_empty()),
                Some(wanted) => matches(wanted, &rest, bindings),
            }
        }
        (Term::Tuple(wanted), Term::Tuple(found)) => {
            wanted.len() == found.len() && all_match(wanted, found, bindings)
        }
        (Term::Map(wanted), Term::Map(found)) => wanted.iter().all(|(key, wanted)| {
            let value = found.iter().find(|(other, _)| encode(other) == encode(key));
            value.is_some_and(|(_, value)| matches(wanted, value, bindings))
        }),
        // Pairs of maps may be in any order.
        _ => encode(pattern) == encode(term),
    }
}

fn all_match(wanted: &[Term], found: &[Term], bindings: &mut Bindings) -> bool {
    let mut pairs = wanted.iter().zip(found);
    pairs.all(|(wanted, found)| matches(wanted, found, bindings))
}
