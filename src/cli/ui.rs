//! The terminal: the only place that prints, asks and shows progress.
//!
//! Results go to standard output, talk to standard error. Colour appears on
//! a terminal only, and never with `NO_COLOR`.

use std::fmt;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use serde::Serialize;

use super::error::CommandError;

const GREEN: Style = AnsiColor::Green.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// How long something may take without a word where no terminal shows it.
const SILENCE: Duration = Duration::from_secs(10);

/// Columns that a terminal has at least.
const COLUMNS: usize = 80;

/// How a piece of text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Odd,
    /// Wrong.
    Bad,
    /// Of less interest.
    Faint,
    /// Important.
    Strong,
    /// A place or name.
    Name,
}

/// The terminal.
#[derive(Default)]
pub struct Ui {
    quiet: bool,
    lost: AtomicBool,
    /// What is drawn and drawn again, while something goes on.
    bar: Mutex<WeakProgressBar>,
}

impl fmt::Debug for Ui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ui").field("quiet", &self.quiet).finish_non_exhaustive()
    }
}

impl Ui {
    /// Makes a terminal. A quiet one says only what was asked for, and errors.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            ..Self::default()
        }
    }

    /// Says whether only what was asked for is said.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Writes a line of the result.
    pub fn out(&self, line: &str) {
        if writeln!(anstream::stdout(), "{line}").is_err() {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Empties the terminal.
    pub fn clear(&self) {
        let _ = console::Term::stdout().clear_screen();
    }

    /// Writes a name and its value on a line; a note on them stands at its end,
    /// or on lines of its own when there is no room for it.
    pub fn out_with_note(&self, key: &str, tone: Tone, value: &str, note: &str) {
        let width = |text: &str| text.chars().count();
        let line = format!("{} {value}", paint(tone, key));
        let used = width(key) + 1 + width(value);
        if used + 2 + width(note) <= COLUMNS {
            let pad = " ".repeat(COLUMNS - used - width(note));
            return self.out(&format!("{line}{pad}{}", paint(Tone::Faint, note)));
        }
        if used <= COLUMNS {
            self.out(line.trim_end());
        } else {
            self.out(&paint(tone, key));
            self.out(&format!("    {value}"));
        }
        let mut rest = String::new();
        for word in note.split(' ') {
            if width(&rest) + 1 + width(word) > COLUMNS - 4 {
                self.out(&format!("    {}", paint(Tone::Faint, &rest)));
                rest.clear();
            }
            if !rest.is_empty() {
                rest.push(' ');
            }
            rest.push_str(word);
        }
        self.out(&format!("    {}", paint(Tone::Faint, &rest)));
    }

    /// Says whether some of the result could not be written.
    pub fn has_lost_output(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes a result as JSON.
    ///
    /// # Errors
    /// Never for values that are JSON.
    pub fn json<T: Serialize>(&self, value: &T) -> Result<(), CommandError> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        self.out(&text);
        Ok(())
    }

    /// Writes a line beside the result, and no piece of what is drawn with it.
    fn aside(&self, line: &str) {
        let write = || {
            let _ = writeln!(anstream::stderr(), "{line}");
        };
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Says what happens.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            self.aside(line);
        }
    }

    /// Says that something is done.
    pub fn done(&self, line: &str) {
        self.say(&format!("{GREEN}✔{GREEN:#} {line}"));
    }

    /// Says what somebody should look at.
    pub fn warn(&self, line: &str) {
        self.say(&format!("{YELLOW}warning:{YELLOW:#} {line}"));
    }

    /// Says what failed.
    pub fn error(&self, line: &str) {
        self.aside(&format!("{RED}error:{RED:#} {line}"));
    }

    /// Says what to do about what failed.
    pub fn hint(&self, line: &str) {
        self.aside(&format!("{CYAN}hint:{CYAN:#} {line}"));
    }

    /// Says what to do next, where nothing failed.
    pub fn tip(&self, line: &str) {
        if !self.quiet {
            self.hint(line);
        }
    }

    /// Asks before something is destroyed. Without a terminal the answer is
    /// no, unless it was given beforehand.
    ///
    /// # Errors
    /// When the answer is no.
    pub fn consent(&self, question: &str, given: bool, variable: &str) -> Result<(), CommandError> {
        if given || crate::sys::env::flag(variable) {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(CommandError::user(format!(
                "{question} There is no terminal to ask on, so nothing was done"
            ))
            .hint(format!("say yes beforehand with --yes, or {variable}=true")));
        }
        if self.asks(question)? {
            Ok(())
        } else {
            self.say("Nothing was done.");
            Err(CommandError::silent(super::error::USER))
        }
    }

    /// Asks on the terminal; no answer is no.
    ///
    /// # Errors
    /// When the answer cannot be read.
    pub fn asks(&self, question: &str) -> io::Result<bool> {
        let _ = write!(anstream::stderr(), "{BOLD}{question}{BOLD:#} [y/N] ");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if !answer.ends_with('\n') {
            // Nobody ended the line.
            let _ = writeln!(anstream::stderr());
        }
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    /// Shows that something goes on, until it is dropped or finished.
    pub fn progress(&self, message: &str) -> Progress {
        let shown = !self.quiet && io::stderr().is_terminal();
        let target = if shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.set_message(message.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = bar.downgrade();
        let (end, ended) = mpsc::channel();
        if !shown && !self.quiet {
            let bar = bar.clone();
            std::thread::spawn(move || {
                // In a pipe nothing turns: who waits for long is told for what.
                while ended.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                    anstream::eprintln!("  {} …", bar.message());
                }
            });
        }
        Progress { bar, _end: end }
    }

    /// Writes a table; columns are as wide as their widest cell.
    pub fn narrow_table(&self, head: &[&str], rows: &[Vec<(String, Option<Tone>)>], dispensable: &[&str]) {
        let wide = |kept: &[usize]| -> usize {
            let widest = |column: &usize| {
                let cells = rows.iter().filter_map(|row| row.get(*column));
                let cells = cells.map(|(text, _)| text.chars().count());
                cells.chain([head[*column].len()]).max().unwrap_or(0) + 2
            };
            kept.iter().map(widest).sum::<usize>().saturating_sub(2)
        };
        let mut kept: Vec<usize> = (0..head.len()).collect();
        let room = columns();
        for name in dispensable {
            if wide(&kept) > room {
                kept.retain(|column| head[*column] != *name);
            }
        }
        // Where even that is too much, the last column gets lines of its own.
        let last = kept.last().copied().filter(|_| wide(&kept) > room);
        if last.is_some() {
            kept.pop();
        }
        let head: Vec<&str> = kept.iter().map(|column| head[*column]).collect();
        let cut: Vec<_> = rows
            .iter()
            .map(|row| kept.iter().filter_map(|column| row.get(*column).cloned()).collect())
            .collect();
        self.table(&head, &cut);
        for row in rows {
            if let (Some((name, _)), Some((text, tone))) = (row.first(), last.and_then(|last| row.get(last)))
                && !text.is_empty()
            {
                let text = tone.map_or_else(|| text.clone(), |tone| paint(tone, text));
                self.out(&format!("{name}: {text}"));
            }
        }
    }

    /// Prints rows in columns.
    pub fn table(&self, head: &[&str], rows: &[Vec<(String, Option<Tone>)>]) {
        let width = |column: usize| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|(text, _)| text.chars().count());
            cells.chain([head[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let line = |cells: Vec<(String, Option<Tone>)>| {
            let mut line = String::new();
            for (column, (text, tone)) in cells.iter().enumerate() {
                let pad = widths[column].saturating_sub(text.chars().count()) + 2;
                let last = column + 1 == cells.len();
                line.push_str(&tone.map_or_else(|| text.clone(), |tone| paint(tone, text)));
                line.push_str(&" ".repeat(if last { 0 } else { pad }));
            }
            line.trim_end().to_owned()
        };
        self.out(&line(
            head.iter()
                .map(|text| ((*text).to_owned(), Some(Tone::Faint)))
                .collect(),
        ));
        for row in rows {
            self.out(&line(row.clone()));
        }
    }
}

/// Returns how many columns a terminal has; without one, as many as most.
fn columns() -> usize {
    const USUAL: usize = 80;
    let told = crate::sys::env::var("COLUMNS").and_then(|text| text.parse().ok());
    let real = || {
        console::Term::stdout()
            .size_checked()
            .map(|(_, columns)| usize::from(columns))
    };
    told.or_else(real).filter(|columns| *columns > 0).unwrap_or(USUAL)
}

/// Gives text a tone, for terminals.
pub fn paint(tone: Tone, text: &str) -> String {
    let style = match tone {
        Tone::Good => GREEN,
        Tone::Odd => YELLOW,
        Tone::Bad => RED,
        Tone::Faint => DIM,
        Tone::Strong => BOLD,
        Tone::Name => CYAN,
    };
    format!("{style}{text}{style:#}")
}

/// Something that goes on.
pub struct Progress {
    bar: ProgressBar,
    /// Dropped with it, which ends what else tells of it.
    _end: mpsc::Sender<()>,
}

impl Progress {
    /// Shows how far it is.
    pub fn at(&self, done: usize, total: usize) {
        if self.bar.length() != Some(total as u64)
            && let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {pos}/{len} {elapsed:.dim}")
        {
            self.bar.set_style(style);
            self.bar.set_length(total as u64);
        }
        self.bar.set_position(done as u64);
    }

    /// Says what goes on now.
    pub fn set(&self, message: &str) {
        self.bar.set_message(message.to_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
