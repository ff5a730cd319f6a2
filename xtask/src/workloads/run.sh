# Runs the same natively and in guests. Each row: name, nanoseconds, operations, perhaps nanoseconds of processor time.
# $1: all, short, scale (how cost grows with processes and memory), fresh (code that is executed for the first time),
# vcpus (the same on more processors: $2, as many at once) or smp (work for two processors, on $2).
export LC_ALL=C HOME=/tmp
cd /tmp
M=/micro
$M clock
head -c 6000000 /usr/lib/x86_64-linux-gnu/libcrypto.so.3 >data; head -c 1500000 data >small
speed() { # name, bytes, algorithm
    openssl speed -mr -seconds 1 -bytes "$2" -evp "$3" 2>/dev/null |
        while IFS=: read -r tag index what rate rest; do
            [ "$tag" = +F ] && echo "$1 1000000000 $rate 1000000000"
        done
}
short() {
    $M time shell bash -c 'i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done'
    $M time python python3 -I -c '
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
fib(28)'
    $M time sqlite sqlite3 :memory: 'create table t(a integer, b text);
insert into t with recursive c(n) as (select 1 union all select n + 1 from c where n < 400000)
    select n * 7919 % 400009, hex(n * 31) from c;
create index i on t(b); select count(*), sum(length(b)) from t where a % 3 = 0; select * from t order by b limit 5;'
    $M time gzip gzip -9 -c small
    speed sha256 16384 sha256
    $M 0.2 syscall page-fault backed-fault pipe switch fork exec mmap signal open
}
if [ "$1" = short ]; then
    short
elif [ "$1" = scale ]; then
    for row in ring-1 ring-10 ring-100 touch-64M touch-256M touch-1G touch-4G; do $M 0.5 $row; done
elif [ "$1" = fresh ]; then
    $M 0.5 fresh-1 fresh-10 fresh-100
    $M time python-start python3 -I -c 'import json, random, hashlib, decimal'
    $M time cc1 /usr/lib/gcc/x86_64-linux-gnu/12/cc1 -quiet -O2 -o /tmp/out.s /micro.i
elif [ "$1" = vcpus ]; then
    $M together $2 shell-by-$2 bash -c 'i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done'
    $M together $2 sqlite-by-$2 sqlite3 :memory: 'create table t(a integer, b text);
insert into t with recursive c(n) as (select 1 union all select n + 1 from c where n < 200000)
    select n * 7919 % 200003, hex(n * 31) from c;
create index i on t(b); select count(*), sum(length(b)) from t where a % 3 = 0; select * from t order by b limit 5;'
    $M together $2 fork-by-$2 bash -c 'i=0; while [ $i -lt 200 ]; do (:); i=$((i + 1)); done'
elif [ "$1" = smp ]; then
    # Two workers on as many processors as there are.
    openssl speed -mr -multi 2 -seconds 3 -bytes 16384 -evp sha256 2>/dev/null |
        while IFS=: read -r tag index what rate rest; do
            [ "$tag" = +F ] && echo "sha256-on-$2 1000000000 $rate 1000000000"
        done
    openssl speed -mr -multi 2 -seconds 3 rsa2048 2>/dev/null |
        while IFS=: read -r tag index bits sign verify; do
            [ "$tag" = +F2 ] && echo "rsa2048-on-$2 1000000000 $sign 1000000000"
        done
else
    short
    $M time python-start python3 -I -c 'import json, random, hashlib, decimal'
    $M time perl perl -e 'my %h; for my $i (1 .. 2000000) { $h{$i * 7919 % 10007} += $i; } my $s = 0; $s += $h{$_} for sort keys %h;'
    $M time xz xz -2 -T1 -c small
    $M time zstd zstd -q -9 -T1 --single-thread -c data
    $M time cc1 /usr/lib/gcc/x86_64-linux-gnu/12/cc1 -quiet -O2 -o /tmp/out.s /micro.i
    speed aes-cbc 16384 aes-128-cbc
    speed chacha20 16384 chacha20
    openssl speed -mr -seconds 1 rsa2048 2>/dev/null |
        while IFS=: read -r tag index bits sign verify; do
            [ "$tag" = +F2 ] && echo "rsa2048-sign 1000000000 $sign 1000000000"
        done
    for row in int64:300 double:300 matrixprod:200 fft:200 queens:300 crc16:300; do
        $M time "${row%:*}" stress-ng -q --cpu 1 --cpu-method "${row%:*}" --cpu-ops "${row#*:}"
    done
    $M time qsort stress-ng -q --qsort 1 --qsort-ops 3
    $M time memcpy stress-ng -q --memcpy 1 --memcpy-ops 80
    $M time stream stress-ng -q --stream 1 --stream-ops 12 --stream-l3-size 4M
    $M time fork-exec bash -c 'i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i + 1)); done'
fi
$M clock
