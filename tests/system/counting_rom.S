# A guest of a few bytes that runs at once, without firmware: it sleeps until the timer's next tick, a hundred times a
# second, checks that 16 pages still hold what it wrote there, writes the next number to all of them and prints
# "tick NUMBER errors NUMBER" on the first serial port. Two copies that run, or one that was taken up again from an
# earlier state, print a number twice.
#
# as --32 counting_rom.S -o rom.o && ld -m elf_i386 -e 0 -Ttext=0 --oformat=binary rom.o -o rom.bin
# qemu-system-x86_64 -cpu qemu64,-apic -bios rom.bin: 64 KiB that end where the processor starts; without a local APIC the
# first interrupt controller reaches the processor as it stands.
.code16
.text

.set timer_hz, 100
.set timer_vector, 8
.set counter, 0          # in data segment 0x1000
.set errors, 4
.set page_bytes, 0x1000  # 16 of them fill segment 0x2000

start:
  cli
  xor %ax, %ax
  mov %ax, %ds
  mov %ax, %ss
  mov $0x7000, %sp
  movw $on_timer, timer_vector * 4
  movw $0xF000, timer_vector * 4 + 2

  # Interrupt controllers: the first one's vectors begin at 8, the timer's line alone is open.
  mov $0x11, %al
  out %al, $0x20
  mov $timer_vector, %al
  out %al, $0x21
  mov $0x04, %al
  out %al, $0x21
  mov $0x01, %al
  out %al, $0x21
  mov $0xFE, %al
  out %al, $0x21
  mov $0xFF, %al
  out %al, $0xA1

  # Timer: rate generator.
  mov $0x34, %al
  out %al, $0x43
  mov $(1193182 / timer_hz), %ax
  out %al, $0x40
  mov %ah, %al
  out %al, $0x40

  mov $0x1000, %ax
  mov %ax, %ds
  mov $0x2000, %ax
  mov %ax, %es
  sti

next_tick:
  hlt
  mov counter, %eax
  xor %di, %di
check_page:
  cmp %eax, %es:(%di)
  je page_is_right
  incl errors
page_is_right:
  add $page_bytes, %di
  jnz check_page

  inc %eax
  mov %eax, counter
  xor %di, %di
write_page:
  mov %eax, %es:(%di)
  add $page_bytes, %di
  jnz write_page

  mov $tick_text, %si
  call print_text
  mov counter, %eax
  call print_number
  mov $errors_text, %si
  call print_text
  mov errors, %eax
  call print_number
  mov $'\n', %al
  call print_character
  jmp next_tick

on_timer:
  push %ax
  mov $0x20, %al
  out %al, $0x20
  pop %ax
  iret

# Text in the ROM at %si, ended by 0.
print_text:
  mov %cs:(%si), %al
  test %al, %al
  jz printed_text
  call print_character
  inc %si
  jmp print_text
printed_text:
  ret

# %eax in decimal.
print_number:
  mov $10, %ebx
  xor %cx, %cx
divide:
  xor %edx, %edx
  div %ebx
  push %dx
  inc %cx
  test %eax, %eax
  jnz divide
print_digit:
  pop %ax
  add $'0', %al
  call print_character
  loop print_digit
  ret

# %al
print_character:
  push %dx
  push %ax
  mov $0x3FD, %dx
wait_for_room:
  in %dx, %al
  test $0x20, %al
  jz wait_for_room
  pop %ax
  mov $0x3F8, %dx
  out %al, %dx
  pop %dx
  ret

tick_text:
  .asciz "tick "
errors_text:
  .asciz " errors "

.org 0xFFF0
  ljmp $0xF000, $start
.org 0xFFFF
  .byte 0
