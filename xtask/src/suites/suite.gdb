set pagination off
set confirm off
set debuginfod enabled off
handle SIGSEGV SIGBUS SIGFPE SIGILL nostop noprint pass
break faults
set startup-with-shell off
run faults
set $n = 0
while $n < 120
  stepi
  x/i $pc
  set $n = $n + 1
end
print $rip == $pc
info breakpoints
set print inferior-events off
kill
