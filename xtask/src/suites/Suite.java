import java.math.BigInteger;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import java.util.regex.*;
import java.util.stream.*;
import java.util.zip.*;

/** Code that a Java machine compiles while it runs: numbers, objects, strings, exceptions, threads. */
public class Suite {
    interface Shape { double area(); }
    record Circle(double r) implements Shape { public double area() { return r * r * 3; } }
    record Box(double w, double h) implements Shape { public double area() { return w * h; } }
    record Line() implements Shape { public double area() { return 0; } }

    static int integers() {
        int h = 0;
        for (int i = 0; i < 2_000_000; i++) h = Integer.rotateLeft(h, 5) ^ i * 0x9e3779b9 + h / (i | 1) % 77;
        return h;
    }

    static long longs() {
        long h = 1;
        for (long i = 1; i < 1_000_000; i++) h = Long.rotateRight(h, 7) * 6364136223846793005L + Math.multiplyHigh(h, i) + Long.bitCount(h) + h % i;
        return h;
    }

    static double floats() {
        double sum = 0;
        for (int i = 1; i < 300_000; i++) sum += StrictMath.sin(i) * Math.sqrt(i) / StrictMath.log(i + 1) + (float) i * 0.1f + (int) (sum * 3) % 5;
        return sum;
    }

    static double shapes() {
        double sum = 0;
        for (int i = 0; i < 600_000; i++) {
            Shape s = i % 3 == 0 ? new Circle(i % 5) : i % 7 == 0 && i > 400_000 ? new Line() : new Box(i % 11, 2);
            sum += s.area();
        }
        return sum;
    }

    static int exceptions() {
        int caught = 0;
        int[] few = new int[7];
        Object text = "text";
        for (int i = 0; i < 60_000; i++) {
            try {
                if (i % 3 == 0) few[i % 11]++;
                if (i % 5 == 0) caught += 10 / (i % 4);
                if (i % 7 == 0) caught += ((Integer) (i % 2 == 0 ? text : (Object) 3));
                if (i % 9 == 0) { String none = i % 18 == 0 ? null : "x"; caught += none.length(); }
            } catch (ArrayIndexOutOfBoundsException e) { caught += 1;
            } catch (ArithmeticException e) { caught += 20;
            } catch (ClassCastException e) { caught += 300;
            } catch (NullPointerException e) { caught += 4000; }
        }
        return caught;
    }

    static int deep(int n) { return n == 0 ? 0 : 1 + deep(n - 1); }

    static boolean overflow() {
        try { return deep(100_000_000) < 0; } catch (StackOverflowError e) { return true; }
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("integers " + integers() + " " + longs());
        System.out.println("floats " + floats());
        System.out.println("shapes " + shapes());
        System.out.println("exceptions " + exceptions() + " " + overflow());
        BigInteger big = BigInteger.ONE;
        for (int i = 1; i < 1500; i++) big = big.multiply(BigInteger.valueOf(i));
        System.out.println("big " + big.mod(BigInteger.valueOf(1_000_000_007)) + " " + BigInteger.valueOf(3).modPow(big, BigInteger.TWO.pow(521).subtract(BigInteger.ONE)).bitLength());
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < 30000; i++) text.append((char) ('a' + i * 7919 % 26));
        Matcher matcher = Pattern.compile("([aeiou])[^aeiou]{1,3}(?=\\1)").matcher(text);
        int found = 0;
        while (matcher.find()) found++;
        System.out.println("text " + found + " " + text.toString().hashCode() + " " + String.format("%x|%08.3f|%s", 48879, 3.14159, List.of(1, 2)));
        Map<Integer, Long> counts = new HashMap<>();
        for (int i = 0; i < 400_000; i++) counts.merge(i * 7919 % 10007, (long) i, Long::sum);
        System.out.println("map " + counts.values().stream().mapToLong(v -> v % 1000).sum());
        System.out.println("streams " + IntStream.range(0, 200_000).parallel().mapToObj(i -> "n" + i % 991).collect(Collectors.groupingBy(s -> s.length(), TreeMap::new, Collectors.counting())));
        int[] numbers = new Random(7).ints(300_000).toArray();
        Arrays.parallelSort(numbers);
        System.out.println("sort " + numbers[0] + " " + numbers[150_000] + " " + Arrays.hashCode(numbers));
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (int i = 0; i < 40; i++) digest.update(text.toString().getBytes());
        CRC32 crc = new CRC32();
        crc.update(text.toString().getBytes());
        Deflater deflater = new Deflater(9);
        deflater.setInput(text.toString().getBytes());
        deflater.finish();
        System.out.println("bytes " + HexFormat.of().formatHex(digest.digest()) + " " + crc.getValue() + " " + deflater.deflate(new byte[100_000]));
        ConcurrentHashMap<Integer, Integer> shared = new ConcurrentHashMap<>();
        var sum = new java.util.concurrent.atomic.AtomicLong();
        Object lock = new Object();
        long[] guarded = new long[1];
        List<Thread> threads = new ArrayList<>();
        for (int t = 0; t < 4; t++) {
            Thread thread = new Thread(() -> {
                for (int i = 0; i < 50_000; i++) {
                    sum.addAndGet(i);
                    shared.merge(i % 97, 1, Integer::sum);
                    synchronized (lock) { guarded[0] += i & 3; }
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads) thread.join();
        System.out.println("threads " + sum + " " + shared.get(5) + " " + guarded[0]);
        List<byte[]> kept = new ArrayList<>();
        long garbage = 0;
        for (int i = 0; i < 60_000; i++) {
            byte[] piece = new byte[2000 + i % 3000];
            piece[i % 2000] = (byte) i;
            garbage += piece[i * 31 % 2000];
            if (i % 500 == 0) kept.add(piece);
        }
        System.out.println("garbage " + garbage + " " + kept.size());
    }
}
