package boot

import (
	"fmt"
	"math/rand/v2"
)

// words are what instances are called that were given no name.
var words = [...]string{"alder", "algae", "ash", "aspen", "aster", "bamboo", "beech", "birch", "bracken", "briar", "cedar", "clover",
	"cress", "cycad", "daisy", "elder", "elm", "fern", "fig", "fir", "flax", "gorse", "grass", "hazel", "heath", "holly", "hops", "iris",
	"ivy", "juniper", "kelp", "larch", "laurel", "lichen", "lilac", "lily", "lime", "linden", "lotus", "lupin", "maple", "moss",
	"myrtle", "nettle", "oak", "olive", "orchid", "palm", "peony", "pine", "poplar", "reed", "rose", "rowan", "rush", "sedge", "sorrel",
	"spruce", "thyme", "tulip", "vetch", "vine", "willow", "yew"}

// RandomName makes a name for an instance: a plant and four hexadecimal digits. It may be taken; CreateRunDir tells.
func RandomName() string {
	return fmt.Sprintf("%s-%04x", words[rand.IntN(len(words))], rand.IntN(1<<16))
}
