# Runs one suite, natively or in a guest; $1 is its name.
exec 2>&1
export LC_ALL=C HOME=/tmp NO_COLOR=1
[ -d /dev/shm ] || mkdir -m 1777 /dev/shm
cd /tmp
stress() {
    for class in "$@"; do
        stress-ng --quiet --verify --timeout 3 --"$class" 2 || { echo "stress-ng --$class: $?"; exit 1; }
    done
}
case $1 in
luajit)
    # With and without its compiler.
    luajit /suite.lua
    luajit -joff /suite.lua
    for option in hotloop=1 hotexit=1 maxtrace=20; do luajit -O"$option" /suite.lua | sha256sum; done
    ;;
node)
    node /suite.js
    node --always-sparkplug /suite.js | sha256sum
    node --jitless --no-expose-wasm /suite.js plain | sha256sum
    ;;
java)
    # Compiled as it runs, by one compiler and by two, and not at all.
    PATH=/usr/lib/jvm/java-17-openjdk-amd64/bin:$PATH
    java -XX:+UseSerialGC -Xmx600m /Suite.java || exit 1
    for option in -XX:TieredStopAtLevel=1 -Xint -XX:+UseParallelGC; do
        java "$option" -Xmx600m /Suite.java | sha256sum
    done
    ;;
openssl)
    head -c 300000 /usr/lib/x86_64-linux-gnu/libcrypto.so.3 >data
    for digest in md5 sha1 sha224 sha256 sha384 sha512 sha3-256 sha3-512 shake256 blake2b512 blake2s256 sm3 ripemd160; do
        openssl dgst -"$digest" data 2>&1
    done
    key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
    for cipher in aes-128-cbc:32 aes-256-cbc:64 aes-128-ctr:32 aes-192-ecb:48 aes-256-cfb:64 aes-256-ofb:64 camellia-256-cbc:64 \
        aria-256-ctr:64 sm4-cbc:32 chacha20:64 des-ede3-cbc:48; do
        openssl enc -"${cipher%:*}" -K "${key:0:${cipher#*:}}" -iv "${key:0:32}" -in data 2>/dev/null | sha256sum
    done
    for option in 0 ~0x200000200000000 ~0x1000000000000000 :~0x20; do
        OPENSSL_ia32cap=$option openssl dgst -sha256 data
    done
    openssl genpkey -algorithm ed25519 -out key.pem 2>/dev/null
    for algorithm in ed25519 "rsa -pkeyopt rsa_keygen_bits:2048" "ec -pkeyopt ec_paramgen_curve:P-256" \
        "ec -pkeyopt ec_paramgen_curve:P-521"; do
        openssl genpkey -algorithm $algorithm -out key.pem 2>/dev/null
        openssl pkey -in key.pem -pubout -out public.pem
        openssl dgst -sha256 -binary data >digest
        raw=; [ "$algorithm" = ed25519 ] && raw=-rawin
        openssl pkeyutl -sign -inkey key.pem -in digest $raw -out signature &&
            openssl pkeyutl -verify -pubin -inkey public.pem -in digest $raw -sigfile signature
    done
    ;;
perl) perl /suite.pl ;;
perl-tests)
    # Perl's own tests of its language, without those of what a guest has otherwise: terminals, sockets, users, clocks.
    mkdir -p perl/lib
    cp -r /perl-source/t perl/
    for folder in /usr/share/perl/5.* /usr/lib/x86_64-linux-gnu/perl/5.* /usr/share/perl-base /usr/lib/x86_64-linux-gnu/perl-base; do
        [ -d "$folder" ] && cp -rsf "$folder/." perl/lib/ 2>/dev/null
    done
    cd perl/t
    ln -s /usr/bin/perl perl
    for test in base/*.t cmd/*.t op/*.t re/*.t uni/*.t; do
        case $test in
        op/alarm.t | op/time.t | op/time_loop.t | op/stat.t | op/fork.t | op/getppid.t | op/groups.t | op/magic.t | op/die_exit.t) continue ;;
        re/uniprops* | re/speed* | re/fold_grind* | re/pat_psycho.t | uni/bless.t | op/lfs.t | op/sselect.t | op/sleep.t) continue ;;
        esac
        timeout 600 ./perl "$test" </dev/null >out 2>/dev/null
        echo "$test: $? $(grep -c '^ok' out) $(grep -c '^not ok' out)"
    done
    ;;
strace)
    # Signals of faults, system calls, and some that are made to fail.
    # (Some hypervisors let hosts see INT1's address where processors tell the next one's.)
    strace -qq -f -o signals -e trace=none -e signal=all /processor faults | grep -v ^icebp
    sed 's/^[0-9]* //' signals | grep -v TRAP_BRKPT
    strace -qq -ff -o trace -e trace=read,write,dup2,pipe2,exit_group bash -c 'echo a | { read x; echo $x$x; }; exit 3'
    cat trace.* | grep -v ELF | sed 's/[0-9][0-9]*/N/g' | sort | uniq -c
    for fault in write:error=ENOSPC:when=2 close:retval=0:when=3 getuid:error=EPERM; do
        strace -qq -o /dev/null -e inject="$fault" bash -c 'echo 1; echo 2; echo 3' 2>&1
        echo "$fault: $?"
    done
    strace -qq -c -e trace=write -o counts bash -c 'for i in 1 2 3 4 5 6 7; do echo $i; done'
    sed -n 's/.* \([0-9][0-9]*\) *write$/\1 writes/p' counts
    ;;
make)
    # A project built by several processes at once, and what it builds.
    cp -r /lua/src lua
    cd lua
    make -s -j4 SHELL=/bin/bash CC='gcc-12 -std=gnu99' AR='ar rcD' RANLIB='ranlib -D' generic || exit 1
    sha256sum *.o *.a lua luac
    ./lua -e 'local t = {} for i = 1, 200000 do t[i] = i * 7919 % 100003 end table.sort(t) print(t[1], t[777], #t, 2 ^ 53 // 7)'
    ;;
gdb) gdb -nx -quiet -batch -x /suite.gdb /processor ;;
python)
    # Two tests look for a library by way of a compiler and a linker, which are not there.
    python3 -m test -q -i test_find_library_with_gcc -i test_find_library_with_ld test_math test_cmath test_struct test_float test_long test_int test_complex test_ctypes test_thread \
        test_signal test_mmap test_zlib test_hashlib test_faulthandler test_re test_array test_memoryview test_marshal test_fork1 \
        test_sort test_dict test_generators
    ;;
stress-cpu) stress cpu matrix matrix-3d vecmath vecfp vecwide fp funccall hash bsearch qsort heapsort str wcs crypt zlib \
    tree branch longjmp regs jpeg ;;
stress-memory) stress vm mmap mmapfork mmapaddr mremap remap memcpy memfd memrate memthrash mprotect pageswap madvise shm stack \
    stackmmap fault userfaultfd zero bigheap brk cache cacheline l1cache icache membarrier ;;
stress-processes) stress fork vfork clone daemon exec spawn pipe switch context kill wait tsc get vdso syscall sysfs ptrace \
    seccomp enosys ;;
stress-signals) stress signal sigchld sigfd sigfpe sigio sigpending sigpipe sigq sigrt sigsegv sigsuspend sigtrap sigabrt \
    itimer timer timerfd alarm ;;
stress-threads) stress pthread mutex futex sem sem-sysv msg mq atomic lockbus peterson dekker ring-pipe resched schedpolicy \
    eventfd flock splice vm-splice af-alg ;;
*) exit 2 ;;
esac
