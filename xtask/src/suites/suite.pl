# Perl's interpreter: numbers, strings, regular expressions, sorting, packing.
use strict;
my ($h, %count) = (0);
for my $i (1 .. 600000) { $h = ($h * 31 + $i) & 0xffffffff; $count{$h % 1009}++ }
print "$h ", join(',', map { "$_:$count{$_}" } (sort { $count{$b} <=> $count{$a} || $a <=> $b } keys %count)[0 .. 9]), "\n";
my $text = join ' ', map { sprintf '%05d', $_ * 7919 % 100003 } 1 .. 20000;
my $found = () = $text =~ /(\d)\d*?\1 /g;
(my $changed = $text) =~ s/(\d)(\d)/$2$1/g;
print "$found ", unpack('%32C*', $changed), "\n";
my $packed = join '', map { pack 'NnCdf<w', $_, $_ & 0xffff, $_ & 255, $_ / 7, $_ / 3, $_ } 1 .. 5000;
print length $packed, ' ', unpack('%32C*', $packed), "\n";
printf "%.15g %.15g %.15g %s\n", exp(1), atan2(1, 1) * 4, 2 ** 0.5, 9 ** 20;
my $sum = 0;
$sum += sin($_) * sqrt($_) for 1 .. 300000;
printf "%.9f\n", $sum;
for my $n (1 .. 20) { my $r = eval { die { n => $n } if $n % 3; 1 / ($n % 9) }; print ref $@ ? $@->{n} : $@ ? 'division' : $r, ' ' }
print "\n", join(',', sort { length $a <=> length $b or $a cmp $b } map { $_ x ($_ % 5 + 1) } 1 .. 30), "\n";
