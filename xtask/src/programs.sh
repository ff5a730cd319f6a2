# Runs on the host and in the guest; the output must be the same. The last digits of what the mathematics library
# computes are left out: it takes other ways where the processor has fused multiplication.
set -e
echo "== shell"
for i in 1 2 3 4 5; do printf '%s ' $((i * i * 1234567 % 97)); done; echo
seq 1 2000 | sort -R --random-source=/check.sh | sort -n | sha256sum
seq 1 5000 | awk '{ s += sqrt($1) } END { printf "%.6f\n", s }' 2>/dev/null || echo "no awk"
echo "== python"
python3 -I -c '
import cmath, decimal, fractions, functools, hashlib, json, math, random, re, struct, zlib
print(hashlib.sha256(b"x" * 100000).hexdigest(), hashlib.md5(b"y" * 9999).hexdigest())
print(zlib.crc32(b"z" * 54321), len(zlib.compress(bytes(range(256)) * 300)))
print(pow(3, 10007, 2**521 - 1), math.factorial(60))
print([round(f(0.7), 13) for f in (math.sin, math.cos, math.tan, math.exp, math.log, math.gamma, math.erf)])
print(abs(cmath.exp(1j)) - 1 < 1e-15, 0.1 + 0.2, 1e308 * 10, float("nan"), 2.0 ** -1074, math.fma(1, 2, 3) if hasattr(math, "fma") else "")
print(struct.pack("<dfqH", math.pi, math.e, -5, 65535).hex())
random.seed(7)
values = [random.random() - 0.5 for _ in range(5000)]
print(sum(sorted(values)), math.fsum(values), functools.reduce(lambda a, b: (a * 31 + hash(b)) % (1 << 61), values))
decimal.getcontext().prec = 60
print(decimal.Decimal(2).sqrt(), fractions.Fraction(355, 113) ** 5)
print(json.dumps({"a": [1, 2.5, None, True], "b": {"c": "\u00e9"}}), re.sub(r"(\w)(\d+)", r"\2\1", "a1 b22 c333"))
def collatz(n):
    steps = 0
    while n != 1:
        n, steps = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1
    return steps
print(max(range(1, 3000), key=collatz), {i: collatz(i) for i in range(1, 12)})
'
echo "== perl"
perl -e '
my %h; $h{$_ % 37} += $_ ** 1.5 for 1 .. 5000;
printf "%d:%.9g ", $_, $h{$_} for sort { $a <=> $b } keys %h; print "\n";
my $s = join ",", map { sprintf "%x", $_ * 2654435761 % 4294967296 } 1 .. 20; print "$s\n";
$s =~ s/([a-f]+)(\d)/<$2$1>/g; print "$s\n"; printf "%.12f %.12f ", atan2(1, 1) * 4, exp(1); print  10 ** 20, " ", -7 / 2, "\n";
'
echo "== openssl"
head -c 300000 /check.sh | openssl dgst -sha512
for cipher in aes-128-cbc aes-256-ctr aes-256-cbc chacha20 camellia-128-cbc; do
  openssl enc -$cipher -K 000102030405060708090a0b0c0d0e0f -iv 0f0e0d0c0b0a09080706050403020100 -in /check.sh 2>/dev/null | openssl dgst -sha3-256
done
for digest in md5 sha1 sha256 sha3-512 blake2b512 sm3; do openssl dgst -$digest /check.sh; done
openssl prime -hex FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A3620FFFFFFFFFFFFFFFF
openssl ecparam -name prime256v1 -genkey -noout -out /tmp/key.pem
openssl dgst -sha256 -sign /tmp/key.pem -out /tmp/signature /check.sh
openssl pkey -in /tmp/key.pem -pubout -out /tmp/public.pem
openssl dgst -sha256 -verify /tmp/public.pem -signature /tmp/signature /check.sh
rm -f /tmp/key.pem /tmp/public.pem /tmp/signature
