package jobspec

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParametersStandForTheirTagsAndAreNotExpandedAgain(t *testing.T) {
	params := []string{"a b", "{{param.0}}", ""}
	for text, want := range map[string]string{
		"x{{param.0}}y": "xa by", "{{param.1}}{{ param.0 }}": "{{param.0}}a b", "<{{param.2}}>": "<>",
		"{{param.3}}": "{{param.3}}", "{{param.-1}}": "{{param.-1}}", "{{param.+1}}": "{{param.+1}}", "{{param.}}": "{{param.}}",
		"{{param.99999999999999999999}}": "{{param.99999999999999999999}}", "{{id}} {cc} {{argv}}": "{{id}} {cc} {{argv}}",
	} {
		require.Equal(t, []string{"p", want}, WithParams([]string{"p", text}, params), text)
	}
	require.Equal(t, params, WithParams([]string{"{{argv}}"}, params))
	require.False(t, IsArgv([]string{"{{argv}}", "x"}))
}

func TestRetriesAndArrayOptionsHaveLimits(t *testing.T) {
	spec := func(system string) error {
		_, err := Parse([]byte(`{"version":1,"resources":[{"type":"slot","count":1,"label":"task","with":[{"type":"core","count":1}]}],
"tasks":[{"command":["true"],"slot":"task","count":{"per_slot":1}}],"attributes":{"system":{"duration":0,` + system + `}}}`))
		return err
	}
	require.NoError(t, spec(`"retries":1000,"array":{"limit":1,"max-fails":4194304}`))
	for text, want := range map[string]string{
		`"retries":-1`: "retries", `"retries":1001`: "retries", `"retries":"x"`: "retries", `"array":{"limit":0}`: "limit",
		`"array":{"limit":1.5}`: "limit", `"array":{"max-fails":-1}`: "max-fails", `"array":[]`: "array",
	} {
		require.ErrorContains(t, spec(text), want, text)
	}
}
