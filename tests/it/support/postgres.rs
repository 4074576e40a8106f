//! A real PostgreSQL for the tests: one for all, a database for each.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use super::{KDK, Output, temporary};

/// A server, until its handle is dropped or this process ends.
pub struct TestPostgres {
    /// Directory of its socket.
    pub socket: PathBuf,
    pub port: u16,
    child: Child,
    output: BufReader<ChildStdout>,
}

/// Where the newest PostgreSQL of this machine has its programs.
pub fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    found.sort();
    found.pop().map_or_else(
        || {
            let initdb = which::which("initdb").expect("PostgreSQL is installed (support/bootstrap)");
            initdb.parent().expect("a directory").to_owned()
        },
        |(_, path)| path,
    )
}

/// Makes a cluster and serves it until standard input ends, also when the
/// test process is killed.
const SCRIPT: &str = r#"
cd "$1" && export PATH="$2:$PATH" LC_ALL=C && exec 2>>log
[ -d data ] || initdb -D data -U postgres -A trust -E UTF8 --locale=C --no-sync >initdb.log || exit 1
if [ "$4" = tls ]; then
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -addext basicConstraints=critical,CA:FALSE -keyout data/server.key -out server.crt 2>/dev/null
  chmod 600 data/server.key
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=certified -keyout client.key -out client.crt 2>/dev/null
  printf 'local all all trust\nhostssl all certified all cert\nhostssl all all 127.0.0.1/32 trust\nhostssl all all ::1/128 trust\n' >data/pg_hba.conf
  OPTIONS="-c listen_addresses=localhost -c ssl=on -c ssl_cert_file=$1/server.crt -c ssl_key_file=server.key -c ssl_ca_file=$1/client.crt"
fi
start() {
  # After a kill it refuses for a moment, while its other processes end.
  for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    postgres -D data -k "$1" -p "$2" -c listen_addresses="" -c fsync=off -c full_page_writes=off \
      -c max_connections=300 -c shared_buffers=64MB -c autovacuum=off \
      -c max_locks_per_transaction=1024 -c dynamic_shared_memory_type=mmap $OPTIONS >>log 2>&1 &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
      if pg_isready -q -h "$1" -p "$2"; then echo ready; return; fi
      sleep 0.05
    done
    sleep 0.2
  done
  exit 1
}
start "$1" "$3"
while read -r word; do
  case $word in
    kill)
      # Its other processes, too: they would answer for a moment.
      others=$(cat /proc/$pid/task/$pid/children 2>/dev/null || pgrep -P $pid)
      kill -KILL $pid $others; wait $pid
      for other in $others; do
        for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
          case $(ps -o stat= -p $other 2>/dev/null) in '' | Z*) break ;; esac
          sleep 0.05
        done
      done
      echo killed ;;
    start) rm -f data/postmaster.pid; start "$1" "$3" ;;
    STOP | CONT)
      kill -$word $(cat /proc/$pid/task/$pid/children 2>/dev/null || pgrep -P $pid) $pid
      echo $word ;;
  esac
done
kill -QUIT $pid; wait
"#;
/// Runs the rest of its arguments, and removes what they worked on.
const CLEAN: &str = r#"directory=$1; shift; "$@"; rm -rf "$directory""#;

impl TestPostgres {
    /// Starts a server that is reached by its socket.
    pub fn start() -> Self {
        Self::with(5432, "")
    }

    /// Starts a server that is reached by TCP, and with TLS only. Its certificate
    /// is for the name localhost, and lies beside its socket; so does the
    /// one, with its key, by which the role `certified` is let in.
    pub fn start_with_tls() -> Self {
        Self::with(super::port(), "tls")
    }

    fn with(port: u16, kind: &str) -> Self {
        let directory = temporary().keep();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).expect("opened up");
        let mut command = Command::new("sh");
        command.args(["-c", CLEAN, "sh"]).arg(&directory);
        if nix::unistd::geteuid().is_root() {
            command.args(["runuser", "-u", "postgres", "--"]);
        }
        command.args(["sh", "-c", SCRIPT, "sh"]).arg(&directory).arg(programs());
        let mut child = command
            .args([&port.to_string(), kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut postgres = Self {
            socket: directory,
            port,
            child,
            output,
        };
        postgres.hears("ready");
        postgres
    }

    fn hears(&mut self, word: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("read");
        assert_eq!(line.trim(), word);
    }

    fn tell(&mut self, word: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        writeln!(input, "{word}").expect("told");
    }

    /// Kills the server with signal 9.
    pub fn kill(&mut self) {
        self.tell("kill");
        self.hears("killed");
    }

    /// Sends STOP or CONT to all of the server's processes.
    pub fn signal(&mut self, name: &str) {
        self.tell(name);
        self.hears(name);
    }

    /// Runs a statement, in a session that stays open until the handle is dropped.
    pub fn holds(&self, database: &str, sql: &str) -> Held {
        let mut child = Command::new(programs().join("psql"))
            .args(["-X", "-q", "-U", "postgres", "-d", database, "-h"])
            .arg(&self.socket)
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let input = child.stdin.as_mut().expect("piped");
        writeln!(input, "{sql};\n\\echo done").expect("told");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let done = output.lines().map_while(Result::ok).any(|line| line == "done");
        assert!(done, "{sql}");
        Held(child)
    }

    /// Starts the server again.
    pub fn start_again(&mut self) {
        self.tell("start");
        self.hears("ready");
    }

    /// Makes the databases that others are copied from.
    pub fn make_template(&self) {
        self.sql(
            "postgres",
            "CREATE DATABASE template_kdk TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
        );
        let config = self.socket.join("template.yml");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nstorage:\n  inmemory: {{}}\nhttp:\n  addr: 127.0.0.1:0\n{}",
                self.section("template_kdk", false)
            ),
        )
        .expect("written");
        let done = Output::of(
            Command::new(KDK)
                .args(["registry", "database", "migrate", "up"])
                .arg(&config),
        )
        .ok();
        assert!(
            done.contains("OK: applied 184 pre-deployment migration(s), 10 post"),
            "{done}"
        );
        self.sql("postgres", "CREATE DATABASE template_gitlab TEMPLATE template_kdk");
        self.sql("template_gitlab", include_str!("gitlab_schema.sql"));
    }

    /// Returns the one that tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<TestPostgres> = OnceLock::new();
        SHARED.get_or_init(|| {
            let postgres = Self::start();
            postgres.make_template();
            postgres
        })
    }

    /// Runs SQL; returns what it says, unaligned.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        Output::of(&mut self.psql(database, sql)).ok()
    }

    /// Runs SQL; says whether it succeeded.
    pub fn try_sql(&self, database: &str, sql: &str) -> bool {
        Output::of(&mut self.psql(database, sql)).code == 0
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let mut command = Command::new(programs().join("psql"));
        command
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-U",
                "postgres",
                "-v",
                "ON_ERROR_STOP=1",
                "-d",
                database,
            ])
            .args(["-c", sql, "-p", &self.port.to_string()])
            .arg("-h")
            .arg(&self.socket);
        command
    }

    /// Returns a registry's section for a database of this server.
    pub fn section(&self, database: &str, enabled: bool) -> String {
        format!(
            "database:\n  enabled: {enabled}\n  host: {}\n  port: {}\n  user: postgres\n  dbname: {database}\n",
            self.socket.display(),
            self.port
        )
    }

    /// Makes a database with the schema, unless it is there: as `migrate up` makes it or, with
    /// `KDK_TEST_SCHEMA=gitlab`, as GitLab's registry does.
    pub fn database(&self, name: &str) {
        if is_gitlab_schema() {
            self.database_of_gitlab(name);
        } else {
            self.database_of_kdk(name);
        }
    }

    /// Makes a database with what this project adds to the schema, unless it is there.
    pub fn database_of_kdk(&self, name: &str) {
        self.copy("template_kdk", name);
    }

    /// Makes a database as GitLab's registry makes it, unless it is there.
    pub fn database_of_gitlab(&self, name: &str) {
        self.copy("template_gitlab", name);
    }

    fn copy(&self, template: &str, name: &str) {
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self
            .sql(
                "postgres",
                &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'"),
            )
            .is_empty()
        {
            self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        }
    }

    /// Removes a database some time soon.
    pub fn forget(&self, name: &str) {
        let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        let _ = self
            .psql("postgres", &sql)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
    }
}

/// Says whether databases are as GitLab's registry makes them.
pub fn is_gitlab_schema() -> bool {
    std::env::var_os("KDK_TEST_SCHEMA").is_some_and(|schema| schema == "gitlab")
}

impl Drop for TestPostgres {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A session that holds something.
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
