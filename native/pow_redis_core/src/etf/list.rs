//! Reading and writing lists in canonical form, element by element.

use super::tag;
use super::{Cursor, Error, Head, skip};

/// The empty list.
const NIL: &[u8] = &[tag::NIL];
/// The length of the header: the tag and the number of elements.
const HEADER_LEN: usize = 5;

/// One element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    /// A small integer in a list encoded as a string.
    Byte(u8),
    /// The bytes of any other term.
    Term(&'a [u8]),
}

impl Element<'_> {
    /// The element as a term.
    pub fn to_term(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        self.write(&mut out);
        out
    }

    /// Appends the element as a term.
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            Element::Byte(byte) => out.extend([tag::SMALL_INTEGER, byte]),
            Element::Term(bytes) => out.extend(bytes),
        }
    }

    /// The length of the element as a term.
    pub const fn size(self) -> usize {
        match self {
            Element::Byte(_) => 2,
            Element::Term(bytes) => bytes.len(),
        }
    }
}

/// The remaining elements of a list in canonical form, and its tail.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    bytes: &'a [u8],
    terms: u32,
    /// At the next term. After the terms comes the tail; without a cursor, the list is proper.
    cursor: Option<Cursor<'a>>,
}

impl<'a> Elements<'a> {
    /// Reads the head of a list. Returns `None` for any other term.
    pub fn read(cursor: &mut Cursor<'a>) -> Result<Option<Self>, Error> {
        let elements = match Head::read(cursor)? {
            Head::Nil => Self::from_bytes(&[]),
            Head::String(bytes) => Self::from_bytes(bytes),
            Head::List(terms) => Self {
                bytes: &[],
                terms,
                cursor: Some(*cursor),
            },
            _ => return Ok(None),
        };
        Ok(Some(elements))
    }

    const fn from_bytes(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            terms: 0,
            cursor: None,
        }
    }

    /// Reads the next element.
    pub fn next_element(&mut self) -> Result<Option<Element<'a>>, Error> {
        if let Some((&byte, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            return Ok(Some(Element::Byte(byte)));
        }
        match (self.terms.checked_sub(1), &mut self.cursor) {
            (Some(left), Some(cursor)) => {
                self.terms = left;
                term(cursor).map(|bytes| Some(Element::Term(bytes)))
            }
            _ => Ok(None),
        }
    }

    /// Whether no elements are left and the tail is the empty list.
    pub fn is_end(mut self) -> Result<bool, Error> {
        Ok(self.bytes.is_empty()
            && self.terms == 0
            && self.cursor.as_mut().map_or(Ok(NIL), term)? == NIL)
    }

    /// The remaining elements and the tail as a canonical term.
    pub fn rest(mut self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        let mut list = ListWriter::begin(&mut out);
        while let Some(element) = self.next_element()? {
            list.count_element();
            element.write(&mut out);
        }
        match self.cursor.as_mut().map_or(Ok(NIL), term)? {
            NIL => list.end(&mut out),
            tail => {
                list.begin_tail(&mut out);
                out.extend(tail);
            }
        }
        Ok(out)
    }
}

fn term<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Error> {
    let start = *cursor;
    skip(cursor)?;
    Ok(start.until(cursor))
}

/// Writes a list in canonical form. Before appending an element in canonical form, the caller calls
/// [`count_element`](Self::count_element).
#[derive(Debug)]
pub struct ListWriter {
    position: usize,
    elements: u32,
}

impl ListWriter {
    /// Begins a list at the end of `out`.
    pub fn begin(out: &mut Vec<u8>) -> Self {
        let position = out.len();
        out.extend([tag::LIST, 0, 0, 0, 0]);
        Self {
            position,
            elements: 0,
        }
    }

    /// Counts an element.
    pub const fn count_element(&mut self) {
        self.elements = self.elements.saturating_add(1);
    }

    /// Ends a proper list.
    pub fn end(self, out: &mut Vec<u8>) {
        match self.string(out) {
            Some(string) => {
                out.truncate(self.position);
                out.extend(string);
            }
            None => {
                self.begin_tail(out);
                out.push(tag::NIL);
            }
        }
    }

    /// Ends the elements of an improper list. The caller then appends the tail. Without elements, the tail
    /// replaces the list.
    pub fn begin_tail(self, out: &mut Vec<u8>) {
        if self.elements == 0 {
            out.truncate(self.position);
        } else if let Some(number) = out.get_mut(self.position + 1..self.position + HEADER_LEN) {
            number.copy_from_slice(&self.elements.to_be_bytes());
        }
    }

    /// The list encoded as a string, if all elements are small integers and a string can hold them.
    fn string(&self, out: &[u8]) -> Option<Vec<u8>> {
        let length = u16::try_from(self.elements)
            .ok()
            .filter(|&length| length > 0)?;
        let elements = out.get(self.position + HEADER_LEN..)?;
        let mut string = Vec::with_capacity(usize::from(length) + 3);
        string.push(tag::STRING);
        string.extend(length.to_be_bytes());
        for element in elements.chunks(2) {
            match *element {
                [tag::SMALL_INTEGER, byte] => string.push(byte),
                _ => return None,
            }
        }
        Some(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let mut elements = Elements::read(&mut Cursor::new(bytes)).unwrap().unwrap();
        let mut terms = Vec::new();
        let mut rests = vec![elements.clone().rest().unwrap()];
        while let Some(element) = elements.next_element().unwrap() {
            terms.push(element.to_term());
            rests.push(elements.clone().rest().unwrap());
        }
        (terms, rests)
    }

    #[test]
    fn reads_a_string() {
        let (terms, rests) = elements(&[107, 0, 2, 7, 8]);
        assert_eq!(terms, [[97, 7], [97, 8]]);
        assert_eq!(rests, [&[107, 0, 2, 7, 8][..], &[107, 0, 1, 8], &[106]]);
    }

    #[test]
    fn reads_an_improper_list() {
        let list = [108, 0, 0, 0, 2, 106, 97, 8, 97, 9];
        let (terms, rests) = elements(&list);
        assert_eq!(terms, [&[106][..], &[97, 8]]);
        assert_eq!(
            rests,
            [&list[..], &[108, 0, 0, 0, 1, 97, 8, 97, 9], &[97, 9]]
        );
    }

    #[test]
    fn encodes_remaining_small_integers_as_a_string() {
        let (_, rests) = elements(&[108, 0, 0, 0, 2, 106, 97, 8, 106]);
        assert_eq!(rests.get(1), Some(&vec![107, 0, 1, 8]));
    }

    #[test]
    fn ends_after_the_last_element_of_a_proper_list() {
        let is_end = |list: &[u8], read: usize| {
            let mut elements = Elements::read(&mut Cursor::new(list)).unwrap().unwrap();
            for _ in 0..read {
                elements.next_element().unwrap().unwrap();
            }
            elements.is_end().unwrap()
        };
        assert!(is_end(&[106], 0));
        for list in [&[107, 0, 1, 7][..], &[108, 0, 0, 0, 1, 106, 106]] {
            assert!(!is_end(list, 0), "{list:?}");
            assert!(is_end(list, 1), "{list:?}");
        }
        assert!(!is_end(&[108, 0, 0, 0, 1, 106, 97, 1], 1), "improper");
    }

    #[test]
    fn rejects_other_terms() {
        assert!(
            Elements::read(&mut Cursor::new(&[97, 1]))
                .unwrap()
                .is_none()
        );
    }
}
