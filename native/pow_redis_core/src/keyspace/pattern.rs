//! Patterns of keys, as `:ets` match specifications have them.
//!
//! `:_` matches any term; `:"$1"`, `:"$2"`, … match any term, equal terms where a variable stands
//! more than once. A tuple or list matches element by element; a map matches a map that has its
//! keys with matching values, and maybe more, as in a match specification. Everything else matches
//! the same term (`1` is not `1.0`).

use crate::error::{Error, ErrorKind};
use crate::etf::{
    self, AtomForm, Cursor, Element, Elements, Head, VERSION, external, skip, term_after_version,
};
use crate::keyspace::key::Key;

/// A pattern on the parts of the keys of one namespace.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The namespace and the literal parts at the front.
    prefix: Key,
    /// Each part behind the namespace, and the tail.
    parts: Vec<Node>,
    tail: Node,
    literal_parts: usize,
    namespace: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Any,
    Variable(String),
    Literal(Vec<u8>),
    List(Vec<Node>, Box<Node>),
    Tuple(Vec<Node>),
    Map(Vec<(Vec<u8>, Node)>),
}

type Bindings = Vec<(String, Vec<u8>)>;

impl Pattern {
    /// A pattern from the external term of the list `[namespace | pattern]`. The namespace is
    /// taken as it is, even if it looks like a variable.
    pub fn from_external(bytes: &[u8]) -> Result<Self, Error> {
        let list = external(bytes, AtomForm::Utf8).map_err(ErrorKind::Pattern)?;
        let mut cursor = term_after_version(&list).map_err(ErrorKind::Pattern)?;
        let Some(mut elements) = Elements::read(&mut cursor).map_err(ErrorKind::Pattern)? else {
            return Err(ErrorKind::KeyShape.into());
        };
        let Some(namespace) = elements.next_element().map_err(ErrorKind::Pattern)? else {
            return Err(ErrorKind::KeyShape.into());
        };
        let (parts, tail) = list_nodes(elements)?;
        let mut prefix = vec![versioned(&namespace.to_term())];
        for part in &parts {
            match part {
                Node::Literal(term) => prefix.push(versioned(term)),
                _ => break,
            }
        }
        Ok(Self {
            literal_parts: prefix.len() - 1,
            prefix: Key::from_parts(prefix),
            parts,
            tail,
            namespace: namespace.to_term(),
        })
    }

    /// The namespace and the literal parts in front of the first other one.
    pub const fn prefix(&self) -> &Key {
        &self.prefix
    }

    /// Whether the prefix is the only key that can match.
    pub fn is_exact(&self) -> bool {
        self.literal_parts == self.parts.len() && self.is_closed()
    }

    /// Whether keys have as many parts as the pattern.
    fn is_closed(&self) -> bool {
        self.tail == Node::Literal(NIL.to_vec())
    }

    /// Whether a redis_key with so many parts, the namespace included, can match. Says no to most of an
    /// index set at little cost.
    pub fn fits(&self, parts: usize) -> bool {
        let own = 1 + self.parts.len();
        parts == own || (parts > own && !self.is_closed())
    }

    /// Whether the list of a key's parts, in canonical form, matches.
    pub fn matches(&self, parts: &[u8]) -> bool {
        let mut bindings = Bindings::new();
        list_matches(&self.parts, &self.tail, parts, &mut bindings).unwrap_or(false)
    }

    /// A glob for `SCAN` that takes in every redis_key that matches, in either form of atoms.
    pub fn glob(&self) -> Vec<u8> {
        let part = |term: &[u8]| {
            let key = Key::from_parts(vec![versioned(term)]);
            match key.legacy_redis_key() {
                None => key.redis_key().as_bytes().to_vec(),
                Some(_) => b"*".to_vec(),
            }
        };
        let mut globs = vec![part(&self.namespace)];
        globs.extend(self.parts.iter().map(|node| match node {
            Node::Literal(term) => part(term),
            _ => b"*".to_vec(),
        }));
        let mut glob = globs.join(&b':');
        if !self.is_closed() {
            glob.push(b'*');
        }
        glob
    }
}

const NIL: &[u8] = &[106];

fn versioned(term: &[u8]) -> Vec<u8> {
    [&[VERSION], term].concat()
}

fn list_nodes(mut elements: Elements<'_>) -> Result<(Vec<Node>, Node), Error> {
    let mut nodes = Vec::new();
    while let Some(element) = elements.next_element().map_err(ErrorKind::Pattern)? {
        nodes.push(match element {
            Element::Byte(_) => Node::Literal(element.to_term()),
            Element::Term(bytes) => compile(&mut Cursor::new(bytes))?,
        });
    }
    let tail = elements.rest().map_err(ErrorKind::Pattern)?;
    Ok((nodes, compile(&mut Cursor::new(&tail))?))
}

/// A term in canonical form as a pattern.
fn compile(cursor: &mut Cursor<'_>) -> Result<Node, Error> {
    let start = *cursor;
    let fail = |error: etf::Error| Error::from(ErrorKind::Pattern(error));
    let node = match Head::read(cursor).map_err(fail)? {
        Head::Atom(atom) if atom.text() == "_" => Node::Any,
        Head::Atom(atom) if is_variable(&atom.text()) => Node::Variable(atom.text().into_owned()),
        Head::List(_) => {
            *cursor = start;
            skip(cursor).map_err(fail)?;
            match Elements::read(&mut Cursor::new(start.until(cursor))).map_err(fail)? {
                Some(elements) => {
                    let (nodes, tail) = list_nodes(elements)?;
                    Node::List(nodes, Box::new(tail))
                }
                None => Node::Literal(start.until(cursor).to_vec()),
            }
        }
        Head::Tuple(elements) => Node::Tuple(
            (0..elements)
                .map(|_| compile(cursor))
                .collect::<Result<_, _>>()?,
        ),
        Head::Map(pairs) => {
            return (0..pairs)
                .map(|_| pair(cursor))
                .collect::<Result<_, _>>()
                .map(Node::Map);
        }
        _ => Node::Literal(start.until(cursor).to_vec()),
    };
    let is_literal = |node: &Node| matches!(node, Node::Literal(_));
    let literal = match &node {
        Node::List(nodes, tail) => nodes.iter().all(is_literal) && is_literal(tail),
        Node::Tuple(nodes) => nodes.iter().all(is_literal),
        _ => false,
    };
    Ok(if literal {
        Node::Literal(start.until(cursor).to_vec())
    } else {
        node
    })
}

fn pair(cursor: &mut Cursor<'_>) -> Result<(Vec<u8>, Node), Error> {
    let start = *cursor;
    if matches!(compile(cursor)?, Node::Any | Node::Variable(_)) {
        return Err(ErrorKind::PatternMapKey.into());
    }
    Ok((start.until(cursor).to_vec(), compile(cursor)?))
}

/// `$0`, `$1`, …, without leading zeros.
fn is_variable(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|digits| {
        !digits.is_empty()
            && digits.bytes().all(|digit| digit.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'))
    })
}

/// Matches one term and reads past it.
fn term_matches(
    node: &Node,
    cursor: &mut Cursor<'_>,
    bindings: &mut Bindings,
) -> Result<bool, etf::Error> {
    let start = *cursor;
    if let Node::Tuple(nodes) = node {
        let Head::Tuple(elements) = Head::read(cursor)? else {
            return Ok(false);
        };
        if usize::try_from(elements) != Ok(nodes.len()) {
            return Ok(false);
        }
        for node in nodes {
            if !term_matches(node, cursor, bindings)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    skip(cursor)?;
    let term = start.until(cursor);
    match node {
        Node::Any => Ok(true),
        Node::Literal(literal) => Ok(term == literal),
        Node::Variable(name) => Ok(bind(name, term, bindings)),
        Node::List(nodes, tail) => list_matches(nodes, tail, term, bindings),
        Node::Map(pairs) => map_matches(pairs, term, bindings),
        Node::Tuple(_) => Ok(false),
    }
}

fn bind(name: &str, term: &[u8], bindings: &mut Bindings) -> bool {
    match bindings.iter().find(|(bound, _)| bound == name) {
        Some((_, bound)) => bound == term,
        None => {
            bindings.push((name.to_owned(), term.to_vec()));
            true
        }
    }
}

fn list_matches(
    nodes: &[Node],
    tail: &Node,
    term: &[u8],
    bindings: &mut Bindings,
) -> Result<bool, etf::Error> {
    let Some(mut elements) = Elements::read(&mut Cursor::new(term))? else {
        return Ok(false);
    };
    for node in nodes {
        let matched = match elements.next_element()? {
            None => false,
            Some(Element::Term(bytes)) => term_matches(node, &mut Cursor::new(bytes), bindings)?,
            Some(byte) => term_matches(node, &mut Cursor::new(&byte.to_term()), bindings)?,
        };
        if !matched {
            return Ok(false);
        }
    }
    term_matches(tail, &mut Cursor::new(&elements.rest()?), bindings)
}

fn map_matches(
    pairs: &[(Vec<u8>, Node)],
    term: &[u8],
    bindings: &mut Bindings,
) -> Result<bool, etf::Error> {
    let mut cursor = Cursor::new(term);
    let Head::Map(size) = Head::read(&mut cursor)? else {
        return Ok(false);
    };
    // Both are in the order of their keys' bytes.
    let mut wanted = pairs.iter().peekable();
    for _ in 0..size {
        let Some((key, node)) = wanted.peek() else {
            break;
        };
        let start = cursor;
        skip(&mut cursor)?;
        if start.until(&cursor) == key {
            if !term_matches(node, &mut cursor, bindings)? {
                return Ok(false);
            }
            wanted.next();
        } else {
            skip(&mut cursor)?;
        }
    }
    Ok(wanted.peek().is_none())
}

/// The canonical form of a pattern's or key's parts, for tests.
#[cfg(test)]
pub(crate) fn parts_of(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    etf::canonical(&mut Cursor::new(bytes), AtomForm::Utf8, &mut out).unwrap();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: &[u8] = &[119, 1, b'_'];
    const ONE: &[u8] = &[119, 2, b'$', b'1'];
    const A: &[u8] = &[119, 1, b'a'];
    const INT: &[u8] = &[97, 7];

    fn list(elements: &[&[u8]], tail: &[u8]) -> Vec<u8> {
        let number = u32::try_from(elements.len()).unwrap().to_be_bytes();
        [&[108], &number[..], &elements.concat(), tail].concat()
    }

    fn map(pairs: &[&[u8]]) -> Vec<u8> {
        let number = u32::try_from(pairs.len() / 2).unwrap().to_be_bytes();
        [&[116], &number[..], &pairs.concat()].concat()
    }

    fn tuple(elements: &[&[u8]]) -> Vec<u8> {
        [
            &[104, u8::try_from(elements.len()).unwrap()],
            &elements.concat()[..],
        ]
        .concat()
    }

    fn pattern(parts: &[&[u8]], tail: &[u8]) -> Pattern {
        let namespaced = [&[&[109, 0, 0, 0, 1, b'n'][..]], parts].concat();
        Pattern::from_external(&versioned(&list(&namespaced, tail))).unwrap()
    }

    fn matches(wanted: &[&[u8]], parts: &[&[u8]]) -> bool {
        pattern(wanted, NIL).matches(&parts_of(&list(parts, NIL)))
    }

    #[test]
    fn parts_one_by_one() {
        assert!(matches(&[ANY], &[A]));
        assert!(matches(&[ANY], &[INT]));
        assert!(!matches(&[ANY], &[A, A]));
        assert!(!matches(&[ANY], &[]));
        assert!(matches(&[A, ANY], &[&[100, 0, 1, b'a'], INT]));
        assert!(!matches(&[A, ANY], &[INT, A]));
        assert!(matches(&[ONE, ONE], &[INT, INT]));
        assert!(!matches(&[ONE, ONE], &[INT, A]));
        assert!(!matches(&[INT], &[&[70, 64, 28, 0, 0, 0, 0, 0, 0]]));
    }

    #[test]
    fn nested_terms() {
        let nested = list(&[A, ANY], NIL);
        assert!(matches(&[&nested, ANY], &[&list(&[A, INT], NIL), INT]));
        assert!(!matches(&[&nested, ANY], &[&list(&[A], NIL), INT]));
        assert!(matches(
            &[&tuple(&[A, ONE]), ONE],
            &[&tuple(&[A, INT]), INT]
        ));
        assert!(!matches(&[&tuple(&[A, ONE])], &[&tuple(&[A])]));
        let string = list(&[INT, ANY], NIL);
        assert!(matches(&[&string], &[&[107, 0, 2, 7, 9]]));
        assert!(!matches(&[&string], &[&[107, 0, 2, 8, 9]]));
        let improper = list(&[INT], ANY);
        assert!(matches(&[&improper], &[&[107, 0, 2, 7, 9]]));
        assert!(matches(&[&improper], &[&list(&[INT], A)]));
    }

    #[test]
    fn a_map_has_at_least_the_pairs_of_the_pattern() {
        let full = map(&[INT, A, A, INT]);
        assert!(matches(&[&map(&[A, ANY])], &[&full]));
        assert!(matches(&[&map(&[])], &[&full]));
        assert!(matches(&[&map(&[A, INT, INT, A])], &[&full]));
        assert!(!matches(&[&map(&[A, A])], &[&full]));
        assert!(!matches(&[&map(&[NIL, ANY])], &[&full]));
        assert!(!matches(&[&map(&[])], &[A]));
        let namespaced = list(&[INT, &map(&[ONE, A])], NIL);
        let error = Pattern::from_external(&versioned(&namespaced)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::PatternMapKey);
    }

    #[test]
    fn open_ends() {
        let open = pattern(&[A], ANY);
        assert!(!open.is_exact());
        for parts in [&[A][..], &[A, INT], &[A, A, A]] {
            assert!(open.matches(&parts_of(&list(parts, NIL))), "{parts:?}");
        }
        assert!(!open.matches(&parts_of(&list(&[INT, A], NIL))));
    }

    #[test]
    fn the_prefix_ends_at_the_first_part_that_is_not_literal() {
        let redis_key =
            |parts: &[&[u8]]| pattern(parts, NIL).prefix().redis_key().as_bytes().to_vec();
        assert_eq!(redis_key(&[ANY]), b"g20AAAABbg");
        assert_eq!(redis_key(&[INT, ANY, INT]), b"g20AAAABbg:g2EH");
        assert_eq!(redis_key(&[&map(&[]), INT]), b"g20AAAABbg");
        assert_eq!(redis_key(&[INT]), b"g20AAAABbg:g2EH");
        assert!(pattern(&[INT], NIL).is_exact());
        assert!(pattern(&[&tuple(&[A, INT])], NIL).is_exact());
        assert!(!pattern(&[&tuple(&[A, ANY])], NIL).is_exact());
    }

    #[test]
    fn globs_take_in_both_forms_of_atoms() {
        assert_eq!(pattern(&[INT, A, ANY], NIL).glob(), b"g20AAAABbg:g2EH:*:*");
        assert_eq!(pattern(&[INT], ANY).glob(), b"g20AAAABbg:g2EH*");
    }

    #[test]
    fn what_is_a_variable() {
        for variable in ["$0", "$1", "$10", "$99999999999999999999"] {
            assert!(is_variable(variable), "{variable}");
        }
        for literal in ["$", "$01", "$$", "$_", "_", "$1a", "1"] {
            assert!(!is_variable(literal), "{literal}");
        }
    }
}
