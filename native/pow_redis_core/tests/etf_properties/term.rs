//! Terms, and strategies that generate them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::encoding::canonical;

/// A term. Two terms are equal if and only if they are in Erlang (`=:=`).
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// Whether it is negative, and its magnitude: little-endian, without zeros at the end.
    Integer(bool, Vec<u8>),
    /// The bits of the float.
    Float(u64),
    Atom(String),
    Binary(Vec<u8>),
    /// The bytes, and the number of bits used in the last one, 1 to 7. The others are zero.
    Bits(Vec<u8>, u8),
    /// The elements, and the tail of an improper list, which is not a list.
    List(Vec<Term>, Option<Box<Term>>),
    Tuple(Vec<Term>),
    /// The pairs. No two have the same key.
    Map(Vec<(Term, Term)>),
    /// A pid, port or reference: its tag, number of words, node and bytes.
    Opaque(u8, Option<u16>, String, Vec<u8>),
}

impl Term {
    pub fn atom(text: &str) -> Self {
        Self::Atom(text.to_owned())
    }

    pub fn list(elements: Vec<Self>) -> Self {
        Self::List(elements, None)
    }

    pub fn integer(value: i128) -> Self {
        let mut magnitude = value.unsigned_abs().to_le_bytes().to_vec();
        while magnitude.last() == Some(&0) {
            magnitude.pop();
        }
        Self::Integer(value < 0, magnitude)
    }
}

/// Any term of a moderate size.
pub fn term() -> impl Strategy<Value = Term> {
    scalar().prop_recursive(4, 40, 6, |inner| {
        let pairs = vec((inner.clone(), inner.clone()), 0..5);
        prop_oneof![
            3 => vec(inner.clone(), 0..6).prop_map(Term::list),
            1 => vec(byte(), 0..6).prop_map(Term::list),
            1 => (vec(inner.clone(), 1..4), scalar())
                .prop_filter("a tail that is not a list", |(_, tail)| *tail != Term::list(vec![]))
                .prop_map(|(elements, tail)| Term::List(elements, Some(Box::new(tail)))),
            3 => vec(inner, 0..5).prop_map(Term::Tuple),
            2 => pairs.prop_map(map),
        ]
    })
}

/// A term without other terms in it.
fn scalar() -> impl Strategy<Value = Term> {
    prop_oneof![
        4 => integer(),
        1 => any::<f64>().prop_filter("finite", |float| float.is_finite())
            .prop_map(|float| Term::Float(float.to_bits())),
        4 => atom_text().prop_map(Term::Atom),
        3 => vec(any::<u8>(), 0..12).prop_map(Term::Binary),
        1 => (vec(any::<u8>(), 1..6), 1_u8..8).prop_map(bits),
        1 => Just(Term::list(vec![])),
        1 => opaque(),
    ]
}

fn byte() -> impl Strategy<Value = Term> {
    any::<u8>().prop_map(|byte| Term::integer(byte.into()))
}

fn integer() -> impl Strategy<Value = Term> {
    let edges = [255, 256, i128::from(i32::MAX), i128::from(i64::MAX)];
    let edge = (select(edges.to_vec()), -2_i128..3, any::<bool>());
    let long = (any::<bool>(), vec(any::<u8>(), 250..260), 1_u8..=255);
    prop_oneof![
        4 => byte(),
        2 => any::<i128>().prop_map(Term::integer),
        3 => edge.prop_map(|(edge, near, negative)| {
            Term::integer(if negative { -edge - near } else { edge + near })
        }),
        1 => long.prop_map(|(negative, mut magnitude, last)| {
            magnitude.push(last);
            Term::Integer(negative, magnitude)
        }),
    ]
}

fn atom_text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(vec!["a", "b", "user", "Elixir.User", "nil", "true", "é", "日", "_", "$1"])
            .prop_map(str::to_owned),
        1 => "[a-zà-ü]{0,8}",
        1 => (select(vec!["x", "é", "日", "🔑"]), 120_usize..=255)
            .prop_map(|(character, times)| character.repeat(times)),
    ]
}

fn bits((mut bytes, bits): (Vec<u8>, u8)) -> Term {
    if let Some(last) = bytes.last_mut() {
        *last &= !(u8::MAX >> bits);
    }
    Term::Bits(bytes, bits)
}

/// Keeps the first of several pairs with the same key.
fn map(pairs: Vec<(Term, Term)>) -> Term {
    let mut unique: Vec<(Term, Term)> = Vec::new();
    for (key, value) in pairs {
        if unique.iter().all(|(known, _)| *known != key) {
            unique.push((key, value));
        }
    }
    unique.sort_by_key(|(key, _)| canonical(key));
    Term::Map(unique)
}

/// Pids, ports and references, in all their encodings.
fn opaque() -> impl Strategy<Value = Term> {
    let fixed = select(vec![
        (88, 12),
        (89, 8),
        (101, 5),
        (102, 5),
        (103, 9),
        (120, 12),
    ])
    .prop_map(|(tag, length)| (tag, None, length));
    let counted = (select(vec![(90, 4), (114, 1)]), 1_u16..=5)
        .prop_map(|((tag, creation), words)| (tag, Some(words), creation + 4 * usize::from(words)));
    prop_oneof![fixed, counted].prop_flat_map(|(tag, words, length)| {
        (
            select(vec!["nonode@nohost", "é@host"]),
            vec(any::<u8>(), length),
        )
            .prop_map(move |(node, id)| Term::Opaque(tag, words, node.to_owned(), id))
    })
}
