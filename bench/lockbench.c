// lockbench: closed-loop load on a server that speaks RESP, from one thread and one epoll loop.
//
// Each of C connections keeps P cycles in flight; a cycle acquires a lock of its own name and releases it:
//   resplock   LOCK.ACQUIRE key owner TTL 30000   ;  LOCK.RELEASE key owner
//   redis      SET key owner NX PX 30000          ;  DEL key
//   script     SET key owner NX PX 30000          ;  EVALSHA sha 1 key owner, of the script -S; an owner each
// One line of JSON comes out: cycles per second, and percentiles of the acquire and of the whole cycle.
// all_cycles counts the warm-up too: the server's CPU time over the whole run divides by it.
// longest_gap_us is the longest time in which no reply came on any connection, the warm-up left out.
//
// build:  gcc -O2 -o lockbench lockbench.c      (bench.compare does it)
// use:    lockbench -p 7379 -c 64 -P 1 -d 4 -w 1 -m resplock [-h 127.0.0.1] [-k PREFIX] [-s] [-S SCRIPT]
//         -s: every cycle uses the same few names (contention): refusals count as refusals, not errors
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { BUCKETS = 4096, READ_MAX = 1 << 16, DEPTH_MAX = 1024 };
typedef struct { uint64_t started, acquired; int releasing; char key[64], owner[40]; } cycle;
typedef struct {
  int fd;
  cycle *ring; // the cycles in flight, in the order in which their replies come
  int head, count;
  char in[READ_MAX]; int in_len;
  char *out; int out_len, out_cap;
} conn;

static const char *host = "127.0.0.1", *mode = "resplock", *prefix = "bench", *script;
static char sha[41];
static int port = 7379, conns = 1, depth = 1, shared_names = 0;
static double seconds = 4, warmup = 1;
static uint64_t cycles, all_cycles, refusals, errors, serial, longest_gap, histo[2][BUCKETS];
static int measuring; static char last_error[128];

static uint64_t now_ns(void) {
  struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}
// log-linear buckets: 64 per octave of microseconds, under 2 % error
static int bucket(uint64_t ns) {
  uint64_t us16 = ns / 63; int octave = 0;
  while (us16 >= 128) { us16 >>= 1; octave++; }
  int b = octave * 64 + (int)us16; return b < BUCKETS ? b : BUCKETS - 1;
}
static double bucket_us(int b) {
  int octave = b < 128 ? 0 : (b - 64) / 64; uint64_t base = b - octave * 64;
  return (double)(base << octave) * 63 / 1000.0;
}
static double percentile(uint64_t *h, double q) {
  uint64_t n = 0, seen = 0;
  for (int i = 0; i < BUCKETS; i++) n += h[i];
  for (int i = 0; i < BUCKETS; i++) if ((seen += h[i]) > q * n) return bucket_us(i);
  return 0;
}
static void put(conn *c, const char *s, int n) {
  if (c->out_len + n > c->out_cap) c->out = realloc(c->out, c->out_cap = (c->out_len + n) * 2);
  memcpy(c->out + c->out_len, s, n); c->out_len += n;
}
static void command(conn *c, int argc, const char **argv) {
  char head[32]; put(c, head, sprintf(head, "*%d\r\n", argc));
  for (int i = 0; i < argc; i++) {
    put(c, head, sprintf(head, "$%zu\r\n", strlen(argv[i])));
    put(c, argv[i], strlen(argv[i])); put(c, "\r\n", 2);
  }
}
static void send_acquire(conn *c, cycle *y) {
  if (shared_names) sprintf(y->key, "%s:%d", prefix, (int)(serial++ % 8));
  else sprintf(y->key, "%s:%llu", prefix, (unsigned long long)serial++);
  y->releasing = 0; y->started = now_ns();
  if (script) sprintf(y->owner, "%032llx", (unsigned long long)serial * 0x9e3779b97f4a7c15ull); // a token each
  else sprintf(y->owner, "owner-%d", c->fd);
  if (strcmp(mode, "resplock")) command(c, 6, (const char *[]){"SET", y->key, y->owner, "NX", "PX", "30000"});
  else command(c, 5, (const char *[]){"LOCK.ACQUIRE", y->key, y->owner, "TTL", "30000"});
}
static void send_release(conn *c, cycle *y) {
  y->releasing = 1; y->acquired = now_ns();
  if (script) command(c, 5, (const char *[]){"EVALSHA", sha, "1", y->key, y->owner});
  else if (!strcmp(mode, "redis")) command(c, 2, (const char *[]){"DEL", y->key});
  else command(c, 3, (const char *[]){"LOCK.RELEASE", y->key, y->owner});
}
// makes the script known, and takes its SHA1 from the reply
static int load_script(conn *c) {
  command(c, 3, (const char *[]){"SCRIPT", "LOAD", script});
  char in[64]; int n = 0, k;
  if (write(c->fd, c->out, c->out_len) != c->out_len) return 0;
  for (c->out_len = 0; n < 47 && (k = read(c->fd, in + n, 47 - n)) > 0; n += k);
  if (n != 47 || strncmp(in, "$40\r\n", 5)) return 0;
  memcpy(sha, in + 5, 40); return 1;
}
// the length of the reply at p, 0 while it is incomplete
static int reply_len(const char *p, const char *end) {
  const char *eol = memchr(p, '\r', end - p);
  if (!eol || eol + 2 > end) return 0;
  long n = atol(p + 1); int used = eol + 2 - p;
  if (*p == '$' || *p == '=') { if (n < 0) return used; return p + used + n + 2 <= end ? used + n + 2 : 0; }
  if (*p == '*' || *p == '%' || *p == '~' || *p == '>') {
    for (long i = 0, of = *p == '%' ? 2 * n : n; i < of; i++) {
      int k = p + used < end ? reply_len(p + used, end) : 0;
      if (!k) return 0;
      used += k;
    }
  }
  return used;
}
static void on_reply(conn *c, const char *p, int n) {
  cycle y = c->ring[c->head]; c->head = (c->head + 1) % depth; c->count--;
  int failed = *p == '-', refused = !failed && !y.releasing && (p[1] == '-' || *p == '_' || memmem(p, n, "held", 4));
  if (failed) { errors++; snprintf(last_error, sizeof last_error, "%.*s", n > 100 ? 100 : n - 2, p);
    for (char *q = last_error; *q; q++) if (*q == '"' || *q == '\\' || (unsigned char)*q < ' ') *q = '?'; }
  cycle *next = &c->ring[(c->head + c->count++) % depth];
  *next = y;
  if (!y.releasing && !failed && !refused) { send_release(c, next); return; }
  if (refused && measuring) refusals++;
  if (y.releasing && !failed) all_cycles++;
  if (y.releasing && measuring && !failed) {
    cycles++; histo[0][bucket(y.acquired - y.started)]++; histo[1][bucket(now_ns() - y.started)]++;
  }
  send_acquire(c, next);
}
static void flush(conn *c) {
  while (c->out_len) {
    ssize_t n = write(c->fd, c->out, c->out_len);
    if (n < 0) { if (errno == EAGAIN) return; perror("write"); exit(1); }
    memmove(c->out, c->out + n, c->out_len -= n);
  }
}
int main(int argc, char **argv) {
  for (int o; (o = getopt(argc, argv, "h:p:c:P:d:w:m:k:sS:")) != -1;) switch (o) {
    case 'h': host = optarg; break; case 'p': port = atoi(optarg); break;
    case 'c': conns = atoi(optarg); break; case 'P': depth = atoi(optarg); break;
    case 'd': seconds = atof(optarg); break; case 'w': warmup = atof(optarg); break;
    case 'm': mode = optarg; break; case 'k': prefix = optarg; break; case 's': shared_names = 1; break; case 'S': script = optarg; break;
    default: return 2;
  }
  if (depth < 1 || depth > DEPTH_MAX || conns < 1) { fprintf(stderr, "lockbench: bad -c or -P\n"); return 2; }
  int ep = epoll_create1(0); conn *all = calloc(conns, sizeof *all);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)}; inet_pton(AF_INET, host, &to.sin_addr);
  for (int i = 0; i < conns; i++) {
    conn *c = &all[i]; c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (void *)&to, sizeof to)) { perror("connect"); return 1; }
    if (script && !i && !load_script(c)) { fprintf(stderr, "lockbench: SCRIPT LOAD failed\n"); return 1; }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(c->fd, F_SETFL, O_NONBLOCK); c->ring = calloc(depth, sizeof(cycle));
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
    while (c->count < depth) send_acquire(c, &c->ring[c->count++]);
    flush(c);
  }
  uint64_t t0 = now_ns(), from = 0, last = 0, until = t0 + (warmup + seconds) * 1e9;
  while (now_ns() < until) {
    if (!measuring && now_ns() - t0 > warmup * 1e9) { measuring = 1; last = from = now_ns(); }
    struct epoll_event ev[256]; int n = epoll_wait(ep, ev, 256, 50);
    if (n && measuring) {
      uint64_t now = now_ns();
      if (now - last > longest_gap) longest_gap = now - last;
      last = now;
    }
    for (int i = 0; i < n; i++) {
      conn *c = ev[i].data.ptr; ssize_t got = read(c->fd, c->in + c->in_len, READ_MAX - c->in_len);
      if (got == 0) { fprintf(stderr, "lockbench: the server closed a connection: %s\n", last_error); return 1; }
      if (got < 0) { if (errno == EAGAIN) continue; perror("read"); return 1; }
      c->in_len += got; int used = 0, k;
      while (used < c->in_len && (k = reply_len(c->in + used, c->in + c->in_len))) { on_reply(c, c->in + used, k); used += k; }
      memmove(c->in, c->in + used, c->in_len -= used); flush(c);
    }
  }
  double took = (now_ns() - from) / 1e9; struct rusage u; getrusage(RUSAGE_SELF, &u);
  printf("{\"mode\": \"%s\", \"conns\": %d, \"pipeline\": %d, \"cycles_per_s\": %.0f, \"all_cycles\": %llu, \"acquire_p50_us\": %.0f, \"acquire_p99_us\": %.0f, "
         "\"cycle_p50_us\": %.0f, \"cycle_p99_us\": %.0f, \"longest_gap_us\": %.0f, \"refusals\": %llu, \"errors\": %llu, \"last_error\": \"%s\", \"client_cpu_s\": %.2f}\n",
         mode, conns, depth, cycles / took, (unsigned long long)all_cycles, percentile(histo[0], .5), percentile(histo[0], .99), percentile(histo[1], .5),
         percentile(histo[1], .99), longest_gap / 1e3, (unsigned long long)refusals, (unsigned long long)errors, last_error,
         u.ru_utime.tv_sec + u.ru_utime.tv_usec / 1e6 + u.ru_stime.tv_sec + u.ru_stime.tv_usec / 1e6);
  return errors ? 3 : 0;
}
