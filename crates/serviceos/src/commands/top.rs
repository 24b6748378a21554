//! `serviceos top`: services and replicas as they are, once a second, in a terminal.

mod counted;
mod draw;
mod usage;
mod view;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use control::{AdminClient, ClientError, EventEntries, Status};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::TopArgs;
use crate::commands::block_on;
use crate::failure::Failure;
use crate::signals::Orders;
use counted::Counted;
use usage::Processes;
use view::{Look, Sort, View};

/// How often everything is asked for.
const REFRESH: Duration = Duration::from_secs(1);
/// How soon the keyboard is left alone once nobody waits for a key any more.
const KEYS: Duration = Duration::from_millis(100);
/// Keys that wait for the one before them.
const QUEUED_KEYS: usize = 64;

pub(crate) fn run(args: &TopArgs) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let why = "top shows itself in a terminal only; `serviceos status` prints the same once, and with --json for programs";
        return Err(anyhow!(why).into());
    }
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        let why = "this terminal has no place to go back to (TERM=dumb), and top needs that; `serviceos status` prints the same once";
        return Err(anyhow!(why).into());
    }
    let client = AdminClient::new(&args.place.data_dir());
    block_on(async {
        let mut orders = Orders::listen().context("failed to listen for signals")?;
        let (mut view, mut processes) = (View::default(), Processes::default());
        // Where none runs, that is said as by any command.
        let first = look(&client, &mut processes, "").await?;
        view.take(Instant::now(), first);
        // From here on the terminal is restored also where this panics.
        let mut screen = Screen::open()?;
        tokio::select! {
            done = screen.show(&client, view, processes) => done,
            _ = orders.first() => Ok(()),
        }
    })
}

/// Everything that is known now.
async fn look(client: &AdminClient, processes: &mut Processes, after: &str) -> Result<Look, ClientError> {
    let status: Status = client.get("/v1/status").await?;
    let page = client.text("/metrics").await?;
    let events: EventEntries = client.get(&format!("/v1/events?after={after}")).await?;
    let used = processes.look(Instant::now(), &View::groups(&status));
    Ok(Look { status, counted: Counted::of_page(&page), events, used })
}

/// The terminal while it shows nothing else, and whoever reads its keys.
struct Screen {
    terminal: DefaultTerminal,
    keys: mpsc::Receiver<Event>,
    closed: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pressed {
    Quit,
    Sort(Sort),
    Scroll(isize),
    Nothing,
}

impl Screen {
    fn open() -> Result<Self, Failure> {
        // What was done of it already is taken back.
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore());
        let terminal = terminal.context("the terminal cannot be used")?;
        let (pressed, keys) = mpsc::channel(QUEUED_KEYS);
        let closed = Arc::new(AtomicBool::new(false));
        let reader = spawn_blocking({
            let closed = Arc::clone(&closed);
            move || read_keys(&pressed, &closed)
        });
        Ok(Self { terminal, keys, closed, reader: Some(reader) })
    }

    /// Until somebody quits.
    async fn show(
        &mut self,
        client: &AdminClient,
        mut view: View,
        mut processes: Processes,
    ) -> Result<(), Failure> {
        let mut ticks = interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            self.terminal.draw(|frame| draw::draw(frame, &mut view)).context("failed to draw")?;
            let after = view.last_event().to_owned();
            let next = async {
                ticks.tick().await;
                look(client, &mut processes, &after).await
            };
            tokio::pin!(next);
            // A key is heard while an answer is awaited.
            loop {
                tokio::select! {
                    found = &mut next => {
                        match found {
                            Ok(look) => view.take(Instant::now(), look),
                            Err(error) => view.lose(error.to_string()),
                        }
                        break;
                    }
                    key = self.keys.recv() => {
                        let Some(key) = key else { return Err(anyhow!("the terminal is gone").into()) };
                        match pressed(&key) {
                            Pressed::Quit => return Ok(()),
                            Pressed::Sort(sort) => view.sort = sort,
                            Pressed::Scroll(rows) => view.scrolled = view.scrolled.saturating_add_signed(rows),
                            Pressed::Nothing => {}
                        }
                        self.terminal.draw(|frame| draw::draw(frame, &mut view)).context("failed to draw")?;
                    }
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        ratatui::restore();
        // It ends by itself soon, and the runtime waits for it.
        drop(self.reader.take());
    }
}

fn read_keys(pressed: &mpsc::Sender<Event>, closed: &AtomicBool) {
    while !closed.load(Ordering::Relaxed) {
        match event::poll(KEYS) {
            Ok(false) => {}
            Ok(true) => {
                let is_taken = event::read().is_ok_and(|event| pressed.blocking_send(event).is_ok());
                if !is_taken {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

fn pressed(event: &Event) -> Pressed {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else {
        return Pressed::Nothing;
    };
    match code {
        KeyCode::Char('q') | KeyCode::Esc => Pressed::Quit,
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Pressed::Quit,
        KeyCode::Char(key) => Sort::of_key(*key).map_or(Pressed::Nothing, Pressed::Sort),
        KeyCode::Up => Pressed::Scroll(-1),
        KeyCode::Down => Pressed::Scroll(1),
        KeyCode::PageUp => Pressed::Scroll(-10),
        KeyCode::PageDown => Pressed::Scroll(10),
        _ => Pressed::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_quits_sorts_or_scrolls() {
        let key = |code, modifiers| pressed(&Event::Key(KeyEvent::new(code, modifiers)));
        let plain = |letter| key(KeyCode::Char(letter), KeyModifiers::NONE);
        assert_eq!((plain('q'), plain('c')), (Pressed::Quit, Pressed::Sort(Sort::Processors)));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Pressed::Quit);
        assert_eq!(
            (key(KeyCode::Down, KeyModifiers::NONE), plain('z')),
            (Pressed::Scroll(1), Pressed::Nothing)
        );
        assert_eq!(pressed(&Event::Resize(1, 1)), Pressed::Nothing);
    }
}
