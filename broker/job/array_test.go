package job

import (
	"reflect"
	"testing"
	"unsafe"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/stretchr/testify/require"
)

// fill sets every field of a struct to something.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Float64:
			f.SetFloat(float64(i + 1))
		case reflect.Slice:
			f.SetBytes([]byte{1})
		case reflect.Uint32, reflect.Uint64:
			f.SetUint(uint64(i + 1))
		default:
			f.SetInt(int64(i + 1))
		}
	}
}

func TestAnArrayKeepsItsRow(t *testing.T) {
	m, _, err := New(Config{})
	require.NoError(t, err)
	var full ArrayRow
	fill(reflect.ValueOf(&full).Elem())
	full.Token = ""
	spec := &Spec{ID: full.Spec, Job: &jobspec.Jobspec{Name: full.Name}}
	require.Equal(t, &full, m.newArray(&full, spec, &Env{ID: full.Env}).row())

	kind := reflect.TypeOf(full)
	for i := range kind.NumField() { // one alone: what few arrays have is not forgotten
		row := ArrayRow{Spec: full.Spec, Name: full.Name}
		if name := kind.Field(i).Name; name != "Token" && name != "Env" && name != "Size" {
			reflect.ValueOf(&row).Elem().Field(i).Set(reflect.ValueOf(full).Field(i))
		}
		require.Equal(t, &row, m.newArray(&row, spec, nil).row(), kind.Field(i).Name)
	}
	require.NoError(t, m.Check())
}

func TestAPendingJobIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(array{}), uintptr(160), "a queue may hold a million of them")
}
