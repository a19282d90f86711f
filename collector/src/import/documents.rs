//! JSON documents, cut into pieces without holding a whole one: the elements of the lists that matter, wherever
//! lines end.
//!
//! A fault ends its document; reading goes on with the next line, or where the document had begun on an earlier
//! one, with the next line that begins with a brace. So that a document that was cut short does not swallow
//! those behind it, one that goes on over the end of its first line must break it as printers do, behind a
//! bracket, comma or colon, and none may have a line that begins as a document does.

use std::io::{self, Read};

use weir_model::limits;

use super::source::Source;
use super::{Piece, Place, Unreadable, cut_off};
use crate::decode::Signal;
use crate::{jaeger, json};

/// Nesting of a document: as much as the parser of its pieces goes along with, and the list around them.
const NESTING: usize = 130;
/// What documents begin with where each has a line.
const BEGINNINGS: [&[u8]; 4] =
    [b"{\"resourceSpans\"", b"{\"resourceMetrics\"", b"{\"resourceLogs\"", b"{\"data\""];

/// Reads documents one behind the other.
pub(super) struct Documents<R> {
    source: Source<R>,
    state: State,
    /// Where the open document began.
    began: Place,
    /// The last byte that is no space.
    last: u8,
    piece: Vec<u8>,
    /// Whether anything of the open document was understood, or it is empty.
    known: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Before the first document.
    Start,
    Between,
    /// Behind a brace, or behind a member.
    Members {
        first: bool,
    },
    Elements {
        list: List,
        first: bool,
    },
    End,
}

/// What the elements of a list are.
#[derive(Debug, Clone, Copy)]
enum List {
    Otlp(Signal),
    Jaeger,
}

impl List {
    fn named(key: &[u8]) -> Option<Self> {
        match key {
            b"resourceSpans" => Some(Self::Otlp(Signal::Traces)),
            b"resourceMetrics" => Some(Self::Otlp(Signal::Metrics)),
            b"resourceLogs" => Some(Self::Otlp(Signal::Logs)),
            b"data" => Some(Self::Jaeger),
            _ => None,
        }
    }
}

/// Why a document cannot be read further.
enum Fault {
    /// Something is wrong there.
    At(Place, String),
    /// The document was cut short and the next line may begin another.
    Cut,
    Read(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl<R: Read> Iterator for Documents<R> {
    type Item = Result<Piece, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().unwrap_or_else(|fault| Some(Err(self.recover(fault))))
    }
}

impl<R: Read> Documents<R> {
    pub(super) fn new(source: Source<R>) -> Self {
        let began = Place::Line(1, 1);
        Self { source, state: State::Start, began, last: b'\n', piece: Vec::new(), known: false }
    }

    /// The next piece; `None` at the end.
    fn read(&mut self) -> Result<Option<Result<Piece, Unreadable>>, Fault> {
        loop {
            match self.state {
                State::End => return Ok(None),
                State::Start => {
                    const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
                    if self.source.is_at(&BYTE_ORDER_MARK)? {
                        self.source.skip(BYTE_ORDER_MARK.len())?;
                    }
                    self.state = State::Between;
                }
                State::Between => {
                    self.skip_blank()?;
                    match self.source.peek()? {
                        None => self.state = State::End,
                        Some(b'{') => {
                            self.began = self.place();
                            self.known = false;
                            self.step(b'{');
                            self.state = State::Members { first: true };
                        }
                        Some(_) => {
                            self.began = self.place();
                            return Err(self.expected("an object"));
                        }
                    }
                }
                State::Members { first } => self.member(first)?,
                State::Elements { list, first } => {
                    if self.goes_on(b']', first)? {
                        self.state = State::Elements { list, first: false };
                        return Ok(Some(self.element(list)?));
                    }
                    self.state = State::Members { first: false };
                }
            }
        }
    }

    /// Reads a member of a document, up to the elements of a list that matters.
    fn member(&mut self, first: bool) -> Result<(), Fault> {
        self.state = State::Members { first: false };
        if !self.goes_on(b'}', first)? {
            self.state = State::Between;
            return if self.known || first { Ok(()) } else { Err(self.nothing_known()) };
        }
        if self.skip_space()? != Some(b'"') {
            return Err(self.expected("a name in quotes"));
        }
        self.capture(true)?;
        let key = self.piece.get(1..self.piece.len().saturating_sub(1)).unwrap_or_default();
        let list = List::named(key);
        if self.skip_space()? != Some(b':') {
            return Err(self.expected("`:`"));
        }
        self.step(b':');
        let value = self.skip_space()?;
        match (list, value) {
            (Some(list), Some(b'[')) => {
                self.known = true;
                self.step(b'[');
                self.state = State::Elements { list, first: true };
            }
            (Some(_), Some(b'n')) => {
                self.known = true;
                self.capture(false)?;
            }
            (Some(_), _) => return Err(self.expected("a list")),
            (None, _) => {
                self.capture(false)?;
            }
        }
        Ok(())
    }

    /// Reads an element and translates it.
    fn element(&mut self, list: List) -> Result<Result<Piece, Unreadable>, Fault> {
        self.skip_space()?;
        let place = self.place();
        if !self.capture(true)? {
            let what = match list {
                List::Otlp(_) => "the entry of this resource",
                List::Jaeger => "the trace",
            };
            let why = format!("{what} is larger than {} MiB", limits::IMPORT_PIECE_BYTES >> 20);
            return Ok(Err(Unreadable { place, why }));
        }
        let translated = match list {
            List::Otlp(signal) => json::entry_to_protobuf(signal, &self.piece),
            List::Jaeger => jaeger::to_protobuf(&self.piece),
        };
        let signal = match list {
            List::Otlp(signal) => signal,
            List::Jaeger => Signal::Traces,
        };
        Ok(translated.map(|request| Piece { signal, request, place }).map_err(|error| located(&error, place)))
    }

    /// Whether there is another member or element, before which it stops; steps over `end` where there is none.
    fn goes_on(&mut self, end: u8, first: bool) -> Result<bool, Fault> {
        match self.skip_space()? {
            Some(byte) if byte == end => {
                self.step(end);
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.step(b',');
                Ok(true)
            }
            _ => Err(self.expected(if end == b']' { "`,` or `]`" } else { "`,` or `}`" })),
        }
    }

    /// Reads a value into `piece` where it is to be kept; `false` where it is too large for that.
    fn capture(&mut self, keep: bool) -> Result<bool, Fault> {
        self.piece.clear();
        let mut fits = true;
        let mut open: Vec<u8> = Vec::new();
        let (mut in_string, mut any) = (false, false);
        loop {
            let Some(byte) = self.source.peek()? else { return Err(self.ends_early()) };
            let mut closes = false;
            match byte {
                b'\n' if in_string => return Err(self.at("the line ends within a string")),
                b'"' => {
                    in_string = !in_string;
                    closes = !in_string && open.is_empty();
                }
                b'\\' if in_string => {
                    self.keep(byte, keep, &mut fits);
                    self.step(byte);
                    match self.source.peek()? {
                        None => return Err(self.ends_early()),
                        Some(b'\n') => {}
                        Some(escaped) => {
                            self.keep(escaped, keep, &mut fits);
                            self.step(escaped);
                        }
                    }
                    continue;
                }
                _ if in_string => {}
                b'{' | b'[' if open.len() == NESTING => {
                    return Err(self.at(&format!("this is nested more than {NESTING} deep")));
                }
                b'{' => open.push(b'}'),
                b'[' => open.push(b']'),
                // Behind a number or a name, which has ended.
                b'}' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' if open.is_empty() => {
                    return if any { Ok(fits) } else { Err(self.expected("a value")) };
                }
                b'}' | b']' if open.pop() == Some(byte) => closes = open.is_empty(),
                b'}' | b']' => return Err(self.at("this bracket closes none of its kind")),
                b'\n' => {
                    self.keep(byte, keep, &mut fits);
                    self.end_line()?;
                    continue;
                }
                _ => {}
            }
            any = true;
            self.keep(byte, keep, &mut fits);
            self.step(byte);
            if closes {
                return Ok(fits);
            }
        }
    }

    fn keep(&mut self, byte: u8, keep: bool, fits: &mut bool) {
        if !keep || !*fits {
            return;
        }
        if self.piece.len() < limits::IMPORT_PIECE_BYTES {
            self.piece.push(byte);
        } else {
            *fits = false;
            self.piece = Vec::new();
        }
    }

    /// Steps over space within a document; what follows.
    fn skip_space(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            match self.source.peek()? {
                Some(b' ' | b'\t' | b'\r') => self.source.step(),
                Some(b'\n') => self.end_line()?,
                None => return Err(self.ends_early()),
                found => return Ok(found),
            }
        }
    }

    /// Steps over space between documents.
    fn skip_blank(&mut self) -> io::Result<()> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.source.peek()? {
            self.source.step();
        }
        Ok(())
    }

    /// Steps over the end of a line within a document.
    fn end_line(&mut self) -> Result<(), Fault> {
        if matches!(self.began, Place::Line(line, _) if line == self.source.line)
            && !matches!(self.last, b'{' | b'[' | b',' | b':')
        {
            return Err(self.at("the line ends within an object"));
        }
        self.source.step();
        for beginning in BEGINNINGS {
            if self.source.is_at(beginning)? {
                return Err(Fault::Cut);
            }
        }
        Ok(())
    }

    /// Steps over `byte`, which was peeked.
    fn step(&mut self, byte: u8) {
        if !byte.is_ascii_whitespace() {
            self.last = byte;
        }
        self.source.step();
    }

    fn place(&self) -> Place {
        Place::Line(self.source.line, self.source.column)
    }

    fn at(&self, why: &str) -> Fault {
        Fault::At(self.place(), why.to_owned())
    }

    fn expected(&mut self, what: &str) -> Fault {
        let found = match self.source.peek() {
            Ok(Some(byte @ b' '..=b'~')) => format!("`{}`", char::from(byte)),
            Ok(Some(byte)) => format!("the byte 0x{byte:02x}"),
            _ => "the end".to_owned(),
        };
        self.at(&format!("expected {what}, found {found}"))
    }

    fn nothing_known(&self) -> Fault {
        let why =
            "this has none of `resourceSpans`, `resourceMetrics`, `resourceLogs` (OTLP) and `data` (Jaeger)";
        Fault::At(self.began, why.to_owned())
    }

    fn ends_early(&self) -> Fault {
        self.at(&format!("the file ends within the object that begins at {}", self.began))
    }

    /// Goes to where reading may go on.
    fn recover(&mut self, fault: Fault) -> Unreadable {
        self.state = State::Between;
        let unreadable = match fault {
            Fault::Cut => {
                let why = "the object that begins here is cut short".to_owned();
                return Unreadable { place: self.began, why };
            }
            Fault::Read(error) => {
                self.state = State::End;
                let why = cut_off(&error);
                return Unreadable { place: self.place(), why };
            }
            Fault::At(place, why) => Unreadable { place, why },
        };
        if let Err(error) = self.skip_fault(unreadable.place) {
            tracing::debug!(%error, "reading ended behind a fault");
            self.state = State::End;
        }
        unreadable
    }

    fn skip_fault(&mut self, fault: Place) -> io::Result<()> {
        let line = |place| if let Place::Line(line, _) = place { line } else { 0 };
        let alone = line(self.began) == line(fault);
        self.source.skip_line()?;
        while !alone && !matches!(self.source.peek()?, None | Some(b'{')) {
            self.source.skip_line()?;
        }
        Ok(())
    }
}

/// An error of a piece, where it is in the file.
fn located(error: &serde_json::Error, piece: Place) -> Unreadable {
    let said = error.to_string();
    let why = said.rsplit_once(" at line ").map_or(said.as_str(), |(why, _)| why).to_owned();
    let place = match piece {
        Place::Line(line, column) if error.line() <= 1 => {
            Place::Line(line, column + (error.column() as u64).saturating_sub(1))
        }
        Place::Line(line, _) => Place::Line(line + error.line() as u64 - 1, error.column() as u64),
        place @ Place::Message(_) => place,
    };
    Unreadable { place, why }
}
