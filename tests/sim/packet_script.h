// Scripts of frames in and out, with times, for single rules of the protocol; in the spirit of
// packetdrill (Cardwell et al., USENIX ATC 2013). One script drives one Sender or one Receiver.
//
//   sender pages 64 mtu 9000 window 16     what is tested; other words: rate BITS_PER_SECOND
//   0ms  fill 0+4 7                        pages 0 to 3 of local memory are filled with 7
//   0ms  mark 0+4                          sender: were written
//   0ms  iteration | final                 sender: begin_iteration(), begin_final_pass()
//   0ms  undo                              sender: the last frame did not leave
//   0ms  mtu 1500                          sender: the path carries no larger packets
//   0ms  > data 1 floor 1 raw 0+2          the next frame out is exactly this
//   0ms  > nothing                         nothing may go out now
//   2ms  < ack 1 cumulative 3 received 4,6-8 echo 0ms [largest 8] [: rejected]
//   9ms  expect pending 0 in_flight 2 lost 1 deadline 12ms settled no suspect no
//
//   receiver pages 64
//   0ms  < data 1 floor 1 raw 0+2 value 7 [: duplicate]   the reason why it is dropped, if it is
//   0ms  > ack 1 cumulative 2 largest 1 [received 4,6-8]
//   0ms  expect page 0 7
//
// Times are from the script's start and never go back. A sender's timers fire in between, each at
// its own time. Records: raw FIRST+COUNT, zero FIRST+COUNT, fragment PAGE/INDEX. `#` begins a
// comment.
#pragma once

#include <istream>
#include <string>

namespace sluice::sim {

// Empty, or the first line that does not hold: "LINE: what happened instead".
[[nodiscard]] std::string run_packet_script(std::istream& script);

}  // namespace sluice::sim
