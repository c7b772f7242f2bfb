# A stub with the functions used here, if the real module is not on the code path.
unless Code.ensure_loaded?(Telemetry.Metrics) do
  defmodule Telemetry.Metrics do
    @moduledoc false

    defmodule Metric do
      @moduledoc false
      defstruct [:type, :name, :event_name, :measurement, :tags, :tag_values, :unit, :description]
    end

    for type <- [:counter, :sum, :summary, :last_value] do
      def unquote(type)(name, options), do: metric(unquote(type), name, options)
    end

    defp metric(type, name, options) do
      name = name |> String.split(".") |> Enum.map(&String.to_atom/1)
      {event_name, [measurement]} = Enum.split(name, -1)

      defaults = [
        type: type,
        name: name,
        event_name: event_name,
        measurement: measurement,
        tags: [],
        tag_values: &Function.identity/1
      ]

      struct!(Metric, Keyword.merge(defaults, options))
    end
  end
end
